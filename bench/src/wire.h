/* wire: what the benchmark's load source and sink share: non-blocking sockets with or without TLS, and order statistics.
 *
 * Both programs are one epoll thread each. They must stay far cheaper than what they measure, so nothing here copies a
 * message body that can be sent from where it lies. Loopback only: every address is checked by wire_loopback().
 */
#ifndef WIRE_H
#define WIRE_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct buffer {
    char *data;
    size_t length, capacity;
};

/* One connection. Output is up to three pieces in order: own bytes, one shared piece that is not copied, a closing piece. */
struct wire {
    int descriptor; /* -1 when closed */
    int epoll;
    uint32_t interest; /* what epoll was told last, so that it is told only about changes */
    void *owner;
    SSL *tls;
    bool tls_wants_write;
    struct buffer in, own;
    struct iovec piece[3];
    int pieces;
};

enum wire_status { WIRE_OK, WIRE_CLOSED };

int64_t wire_now(void);                                      /* nanoseconds, CLOCK_MONOTONIC: one clock for all processes here */
struct sockaddr_in wire_loopback(const char *host, int port); /* exits unless host is in 127.0.0.0/8 */
void wire_raise_file_limit(void);
void *wire_allocate(size_t size); /* zeroed; exits when memory is out */

void buffer_reserve(struct buffer *buffer, size_t extra);
void buffer_append(struct buffer *buffer, const void *data, size_t length);
void buffer_consume(struct buffer *buffer, size_t length);
void buffer_free(struct buffer *buffer);

void wire_adopt(struct wire *wire, int descriptor, int epoll, void *owner); /* sets TCP_NODELAY and registers with epoll */
void wire_close(struct wire *wire);                                       /* frees all but the struct itself */
void wire_begin_tls(struct wire *wire, SSL_CTX *context, bool server);
enum wire_status wire_receive(struct wire *wire); /* appends all that is there to `in` */
void wire_say(struct wire *wire, const char *text, size_t length);
void wire_say_shared(struct wire *wire, const char *body, size_t body_length, const char *closing, size_t closing_length);
enum wire_status wire_flush(struct wire *wire);
bool wire_is_idle(const struct wire *wire); /* nothing waits to be written */

struct samples {
    float *value; /* milliseconds */
    size_t count, capacity;
};
void samples_add(struct samples *samples, double milliseconds);
void samples_print(struct samples *samples, const char *name); /* "name":{"p50":..,...}; sorts in place */
void print_json_string(const char *text);

#endif
