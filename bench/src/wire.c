#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 16384, TLS_RECORD = 16384 };

int64_t wire_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

struct sockaddr_in wire_loopback(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || ntohl(address.sin_addr.s_addr) >> 24 != 127) {
        fprintf(stderr, "%s is not a loopback address; the benchmark never talks to another machine\n", host);
        exit(2);
    }
    return address;
}

void wire_raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void *checked(void *memory) {
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

void *wire_allocate(size_t size) {
    return checked(calloc(1, size ? size : 1));
}

void buffer_reserve(struct buffer *buffer, size_t extra) {
    size_t need = buffer->length + extra;
    if (need <= buffer->capacity) return;
    size_t capacity = buffer->capacity ? buffer->capacity : 1024;
    while (capacity < need) capacity *= 2;
    buffer->data = checked(realloc(buffer->data, capacity));
    buffer->capacity = capacity;
}

void buffer_append(struct buffer *buffer, const void *data, size_t length) {
    buffer_reserve(buffer, length);
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

void buffer_consume(struct buffer *buffer, size_t length) {
    buffer->length -= length;
    if (buffer->length) memmove(buffer->data, buffer->data + length, buffer->length);
}

void buffer_free(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

static void set_interest(struct wire *wire, uint32_t interest) {
    if (interest == wire->interest) return;
    struct epoll_event event = {.events = interest, .data.ptr = wire->owner};
    epoll_ctl(wire->epoll, wire->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, wire->descriptor, &event);
    wire->interest = interest;
}

void wire_adopt(struct wire *wire, int descriptor, int epoll, void *owner) {
    int one = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *wire = (struct wire){.descriptor = descriptor, .epoll = epoll, .owner = owner};
    set_interest(wire, EPOLLIN);
}

void wire_close(struct wire *wire) {
    if (wire->tls) {
        if (SSL_is_init_finished(wire->tls)) SSL_shutdown(wire->tls);
        SSL_free(wire->tls);
        ERR_clear_error();
    }
    if (wire->descriptor >= 0) close(wire->descriptor);
    buffer_free(&wire->in);
    buffer_free(&wire->own);
    *wire = (struct wire){.descriptor = -1};
}

void wire_begin_tls(struct wire *wire, SSL_CTX *context, bool server) {
    wire->tls = checked(SSL_new(context));
    SSL_set_fd(wire->tls, wire->descriptor);
    /* The handshake then runs inside wire_flush and wire_receive; no state of its own is needed. */
    if (server) SSL_set_accept_state(wire->tls);
    else SSL_set_connect_state(wire->tls);
    SSL_set_mode(wire->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
}

/* The meaning of a failed SSL call: WIRE_OK is "not now", with the direction it waits for noted. */
static enum wire_status tls_trouble(struct wire *wire, int result) {
    int error = SSL_get_error(wire->tls, result);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ) return WIRE_OK;
    if (error == SSL_ERROR_WANT_WRITE) {
        wire->tls_wants_write = true;
        set_interest(wire, EPOLLIN | EPOLLOUT);
        return WIRE_OK;
    }
    return WIRE_CLOSED;
}

enum wire_status wire_receive(struct wire *wire) {
    for (;;) {
        buffer_reserve(&wire->in, READ_SIZE);
        char *place = wire->in.data + wire->in.length;
        size_t room = wire->in.capacity - wire->in.length;
        if (wire->tls) {
            int count = SSL_read(wire->tls, place, (int)(room > INT32_MAX ? INT32_MAX : room));
            if (count <= 0) return tls_trouble(wire, count);
            wire->in.length += (size_t)count; /* again: OpenSSL may hold bytes that epoll does not see */
            continue;
        }
        ssize_t count = read(wire->descriptor, place, room);
        if (count == 0) return WIRE_CLOSED;
        if (count < 0) return errno == EAGAIN || errno == EINTR ? WIRE_OK : WIRE_CLOSED;
        wire->in.length += (size_t)count;
        if ((size_t)count < room) return WIRE_OK; /* level-triggered: the rest announces itself */
    }
}

bool wire_is_idle(const struct wire *wire) {
    return wire->pieces == 0;
}

void wire_say(struct wire *wire, const char *text, size_t length) {
    size_t sent = wire->pieces ? wire->own.length - wire->piece[0].iov_len : wire->own.length;
    if (!wire->pieces) wire->own.length = sent = 0;
    buffer_append(&wire->own, text, length);
    wire->piece[0] = (struct iovec){wire->own.data + sent, wire->own.length - sent};
    wire->pieces = 1;
}

void wire_say_shared(struct wire *wire, const char *body, size_t body_length, const char *closing, size_t closing_length) {
    wire->piece[1] = (struct iovec){(void *)(uintptr_t)body, body_length};
    wire->piece[2] = (struct iovec){(void *)(uintptr_t)closing, closing_length};
    wire->pieces = 3;
}

static void advance(struct wire *wire, size_t sent) {
    int first = 0;
    while (first < wire->pieces && sent >= wire->piece[first].iov_len) sent -= wire->piece[first++].iov_len;
    wire->pieces -= first;
    memmove(wire->piece, wire->piece + first, sizeof *wire->piece * (size_t)wire->pieces);
    if (!wire->pieces) return;
    wire->piece[0].iov_base = (char *)wire->piece[0].iov_base + sent;
    wire->piece[0].iov_len -= sent;
}

/* One TLS record made of as many pieces as fit, so that a small message is one record and not three. */
static int tls_write_record(struct wire *wire) {
    static char record[TLS_RECORD];
    size_t length = 0;
    for (int i = 0; i < wire->pieces && length < sizeof record; i++) {
        size_t part = wire->piece[i].iov_len < sizeof record - length ? wire->piece[i].iov_len : sizeof record - length;
        memcpy(record + length, wire->piece[i].iov_base, part);
        length += part;
    }
    return SSL_write(wire->tls, record, (int)length);
}

enum wire_status wire_flush(struct wire *wire) {
    enum wire_status status = WIRE_OK;
    wire->tls_wants_write = false;
    if (wire->tls && !SSL_is_init_finished(wire->tls)) {
        int result = SSL_do_handshake(wire->tls);
        if (result <= 0) return tls_trouble(wire, result);
    }
    while (wire->pieces) {
        ssize_t sent = wire->tls ? tls_write_record(wire) : writev(wire->descriptor, wire->piece, wire->pieces);
        if (sent > 0) {
            advance(wire, (size_t)sent);
            continue;
        }
        if (wire->tls) status = tls_trouble(wire, (int)sent);
        else if (errno != EAGAIN && errno != EINTR) status = WIRE_CLOSED;
        break;
    }
    bool blocked = wire->tls ? wire->tls_wants_write : wire->pieces > 0;
    if (status == WIRE_OK) set_interest(wire, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
    return status;
}

void samples_add(struct samples *samples, double milliseconds) {
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? samples->capacity * 2 : 4096;
        samples->value = checked(realloc(samples->value, samples->capacity * sizeof *samples->value));
    }
    samples->value[samples->count++] = (float)milliseconds;
}

static int ascending(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static double quantile(const struct samples *samples, double part) {
    return samples->count ? samples->value[(size_t)((double)(samples->count - 1) * part + 0.5)] : 0.0;
}

void samples_print(struct samples *samples, const char *name) {
    if (samples->count) qsort(samples->value, samples->count, sizeof *samples->value, ascending);
    printf("\"%s\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}", name, quantile(samples, 0.5),
           quantile(samples, 0.9), quantile(samples, 0.99), quantile(samples, 0.999), quantile(samples, 1.0));
}

void print_json_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c >= 32 && c < 127) putchar(c);
        else printf("\\u%04x", c);
    }
    putchar('"');
}
