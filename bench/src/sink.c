/* sink: the next hop of the benchmark: takes every message, on loopback, in one epoll thread.
 *
 * Reads the source's field "X-Bench: <run> <id> <stamp> <octets of body>" and counts, per run: unique messages, duplicates,
 * messages with and without DKIM-Signature, messages whose body has not the length that was sent, and the time from stamp
 * to here. A message counts when its 250 is sent, so a slow smarthost (--delay-ms, --rate) counts it when it has taken it.
 *
 * Commands on standard input, one a line; end of input ends the program:
 *     count RUN        prints the number of unique messages of that run
 *     report           prints one JSON object about all runs
 *     reset            forgets all runs
 *     dump DIR K MAX   from now on keeps every K-th message as DIR/<run>-<id>.eml, at most MAX of them; K 0: none
 *     rate R           takes at most R messages a second from now on (0: no limit)
 *     tempfail DOMAIN  answers 451 to recipients of that domain ("-": to none)
 */
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, RUNS = 256, MAX_ID = 100000000, MAX_MESSAGE = 256 << 20 };

struct client {
    struct wire wire;
    bool in_data, waiting, dead; /* waiting: a complete message stands in the line for its reply */
    long recipients;
    size_t scanned, message; /* octets of `in` searched for the end; length of the waiting message with its final dot */
    int64_t due;
    struct client *next;
};

struct run {
    bool used;
    long unique, duplicates, with_signature, without_signature, mangled;
    int64_t first, last;
    unsigned char *seen;
    size_t seen_capacity;
    struct samples way;
};

static struct {
    const char *certificate, *key;
    int port;
    double delay_ms, rate;
} option;

static struct {
    char folder[4096];
    long every, most, kept, counter;
} dump;

static struct run runs[RUNS];
static long connections, strangers, taken;
static char tempfail[256] = "-";
static int epoll;
static SSL_CTX *tls_context;
static struct client *line_first, *line_last;
static int64_t last_slot;
static struct client listener, control;
static struct buffer commands;

static void remember(struct run *run, long id, int64_t now, int64_t stamp) {
    if ((size_t)id >= run->seen_capacity) {
        size_t capacity = run->seen_capacity ? run->seen_capacity : 4096;
        while (capacity <= (size_t)id) capacity *= 2;
        run->seen = realloc(run->seen, capacity);
        if (!run->seen) exit(1);
        memset(run->seen + run->seen_capacity, 0, capacity - run->seen_capacity);
        run->seen_capacity = capacity;
    }
    if (run->seen[id]) {
        run->duplicates++;
        return;
    }
    run->seen[id] = 1;
    run->unique++;
    run->last = now;
    if (!run->first) run->first = now;
    samples_add(&run->way, (double)(now - stamp) / 1e6);
}

/* Writes a message without its final dot, dot-stuffing undone (RFC 5321 section 4.5.2). */
static void keep(const char *message, size_t length, long number, long id) {
    char path[4400];
    snprintf(path, sizeof path, "%s/%ld-%08ld.eml", dump.folder, number, id);
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        exit(1);
    }
    const char *end = message + length - 3;
    while (message < end) {
        const char *newline = memchr(message, '\n', (size_t)(end - message));
        const char *stop = newline ? newline + 1 : end;
        if (*message == '.') message++;
        fwrite(message, 1, (size_t)(stop - message), file);
        message = stop;
    }
    fclose(file);
}

/* The value of a header field (name with its colon) at a line start within the head, or NULL. */
static const char *find_field(const char *head, size_t length, const char *name) {
    size_t name_length = strlen(name);
    const char *line = head, *end = head + length;
    while (line && line + name_length <= end) {
        if (!strncasecmp(line, name, name_length)) return line + name_length;
        line = memchr(line, '\n', (size_t)(end - line));
        if (line) line++;
    }
    return NULL;
}

static void take(const char *message, size_t length) {
    int64_t now = wire_now();
    const char *gap = memmem(message, length, "\r\n\r\n", 4);
    size_t head = gap ? (size_t)(gap - message) + 2 : length;
    const char *mark = find_field(message, head, "X-Bench:");
    long number = -1, id = -1;
    long long stamp = 0;
    size_t body = 0;
    taken++;
    if (!mark || sscanf(mark, "%ld %ld %lld %zu", &number, &id, &stamp, &body) != 4 || number < 0 || number >= RUNS || id < 0 || id > MAX_ID) {
        strangers++;
        return;
    }
    struct run *run = &runs[number];
    run->used = true;
    if (find_field(message, head, "DKIM-Signature:")) run->with_signature++;
    else run->without_signature++;
    if (length - 3 - (head + 2) != body) run->mangled++;
    remember(run, id, now, stamp);
    if (dump.every && dump.counter++ % dump.every == 0 && dump.kept < dump.most) {
        dump.kept++;
        keep(message, length, number, id);
    }
}

static void forget_runs(void) {
    for (int i = 0; i < RUNS; i++) {
        free(runs[i].seen);
        free(runs[i].way.value);
    }
    memset(runs, 0, sizeof runs);
    strangers = taken = connections = 0;
    dump.kept = dump.counter = 0;
}

static void print_report(void) {
    const char *comma = "";
    printf("{\"connections\":%ld,\"strangers\":%ld,\"taken\":%ld,\"runs\":{", connections, strangers, taken);
    for (int i = 0; i < RUNS; i++) {
        struct run *run = &runs[i];
        if (!run->used) continue;
        printf("%s\"%d\":{\"unique\":%ld,\"duplicates\":%ld,\"signed\":%ld,\"unsigned\":%ld,\"mangled\":%ld,\"first_ns\":%lld,\"last_ns\":%lld,", comma, i,
               run->unique, run->duplicates, run->with_signature, run->without_signature, run->mangled, (long long)run->first, (long long)run->last);
        samples_print(&run->way, "way_ms");
        putchar('}');
        comma = ",";
    }
    puts("}}");
}

static void command(char *line) {
    long number;
    double rate;
    if (sscanf(line, "count %ld", &number) == 1 && number >= 0 && number < RUNS) printf("%ld\n", runs[number].unique);
    else if (!strcmp(line, "report")) print_report();
    else if (sscanf(line, "dump %4095s %ld %ld", dump.folder, &dump.every, &dump.most) == 3) puts("ok");
    else if (sscanf(line, "tempfail %255s", tempfail) == 1) puts("ok");
    else if (sscanf(line, "rate %lf", &rate) == 1) {
        option.rate = rate;
        puts("ok");
    } else if (!strcmp(line, "reset")) {
        forget_runs();
        puts("ok");
    } else puts("unknown command");
    fflush(stdout);
}

static bool read_commands(void) {
    buffer_reserve(&commands, 8192);
    ssize_t count = read(STDIN_FILENO, commands.data + commands.length, commands.capacity - commands.length);
    if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) return false;
    if (count > 0) commands.length += (size_t)count;
    char *end;
    while (commands.length && (end = memchr(commands.data, '\n', commands.length))) {
        *end = 0;
        command(commands.data);
        buffer_consume(&commands, (size_t)(end - commands.data) + 1);
    }
    return true;
}

static void end_client(struct client *client) {
    if (client->dead) return;
    wire_close(&client->wire);
    client->dead = true;
    if (!client->waiting) free(client);
}

static void say(struct client *client, const char *text) {
    wire_say(&client->wire, text, strlen(text));
}

/* True when the recipient of a RCPT line belongs to the domain that is being put off. */
static bool is_put_off(const char *line, size_t length) {
    const char *at = memrchr(line, '@', length);
    size_t domain = strlen(tempfail);
    return *tempfail != '-' && at && (size_t)(line + length - at) > domain + 1 && !strncasecmp(at + 1, tempfail, domain) && at[1 + domain] == '>';
}

static void on_recipient(struct client *client, const char *line, size_t length) {
    if (is_put_off(line, length)) {
        say(client, "451 4.2.0 not now\r\n");
        return;
    }
    client->recipients++;
    say(client, "250 2.1.5 ok\r\n");
}

static void on_data(struct client *client) {
    if (!client->recipients) {
        say(client, "503 5.5.1 no recipient\r\n");
        return;
    }
    client->in_data = true;
    client->scanned = 0;
    say(client, "354 go ahead\r\n");
}

/* False: the connection is to be closed once the reply is out. */
static bool on_command(struct client *client, const char *line, size_t length) {
    if (length >= 4 && !strncasecmp(line, "RCPT", 4)) on_recipient(client, line, length);
    else if (length >= 4 && !strncasecmp(line, "DATA", 4)) on_data(client);
    else if (length >= 4 && !strncasecmp(line, "EHLO", 4)) {
        say(client, "250-sink.example\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-ENHANCEDSTATUSCODES\r\n");
        if (tls_context && !client->wire.tls) say(client, "250-STARTTLS\r\n");
        say(client, "250 8BITMIME\r\n");
    } else if (length >= 8 && !strncasecmp(line, "STARTTLS", 8) && tls_context && !client->wire.tls) {
        say(client, "220 2.0.0 ready\r\n");
        if (wire_flush(&client->wire) == WIRE_CLOSED || !wire_is_idle(&client->wire)) return false;
        wire_begin_tls(&client->wire, tls_context, true);
    } else if (length >= 4 && !strncasecmp(line, "QUIT", 4)) {
        say(client, "221 2.0.0 bye\r\n");
        return false;
    } else {
        client->recipients = 0; /* MAIL, RSET, HELO; NOOP between RCPT and DATA does not occur here */
        say(client, "250 2.0.0 ok\r\n");
    }
    return true;
}

/* Length of the message with its final dot at the start of `in`, or 0 while it is incomplete. */
static size_t message_length(struct client *client) {
    struct buffer *in = &client->wire.in;
    if (in->length >= 3 && !memcmp(in->data, ".\r\n", 3)) return 3;
    size_t from = client->scanned > 4 ? client->scanned - 4 : 0;
    if (in->length <= from) return 0;
    char *end = memmem(in->data + from, in->length - from, "\r\n.\r\n", 5);
    client->scanned = in->length;
    return end ? (size_t)(end - in->data) + 5 : 0;
}

static void complete(struct client *client) {
    take(client->wire.in.data, client->message);
    buffer_consume(&client->wire.in, client->message);
    client->message = client->scanned = 0;
    client->recipients = 0;
    client->in_data = false;
    say(client, "250 2.0.0 taken\r\n");
}

/* Puts a whole message in the line of those that wait for their reply; due times never fall, so the line is in order. */
static void postpone(struct client *client) {
    int64_t now = wire_now();
    client->due = now + (int64_t)(option.delay_ms * 1e6);
    if (option.rate > 0) {
        int64_t slot = last_slot + (int64_t)(1e9 / option.rate);
        last_slot = slot > now ? slot : now;
        if (last_slot > client->due) client->due = last_slot;
    }
    if (line_last && line_last->due > client->due) client->due = line_last->due;
    client->waiting = true;
    client->next = NULL;
    if (line_last) line_last->next = client;
    else line_first = client;
    line_last = client;
}

/* Handles what has come in; false when the connection must close. */
static bool digest(struct client *client) {
    while (!client->waiting) {
        struct buffer *in = &client->wire.in;
        if (client->in_data) {
            client->message = message_length(client);
            if (!client->message) return in->length <= MAX_MESSAGE;
            if (option.delay_ms > 0 || option.rate > 0) postpone(client);
            else complete(client);
            continue;
        }
        char *end = in->length ? memchr(in->data, '\n', in->length) : NULL;
        if (!end) return in->length <= 65536;
        size_t length = (size_t)(end - in->data) + 1;
        bool stay = on_command(client, in->data, length);
        buffer_consume(in, length);
        if (!stay) return false;
    }
    return true;
}

static void proceed(struct client *client) {
    bool stay = digest(client);
    if (wire_flush(&client->wire) == WIRE_CLOSED || !stay) end_client(client);
}

static void answer_due(void) {
    int64_t now = wire_now();
    while (line_first && line_first->due <= now) {
        struct client *client = line_first;
        line_first = client->next;
        if (!line_first) line_last = NULL;
        client->waiting = false;
        if (client->dead) {
            free(client);
            continue;
        }
        complete(client);
        proceed(client);
    }
}

static void accept_all(void) {
    for (;;) {
        int descriptor = accept4(listener.wire.descriptor, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor < 0) return;
        struct client *client = wire_allocate(sizeof *client);
        wire_adopt(&client->wire, descriptor, epoll, client);
        connections++;
        say(client, "220 sink.example ESMTP\r\n");
        if (wire_flush(&client->wire) == WIRE_CLOSED) end_client(client);
    }
}

static void serve(void) {
    struct epoll_event events[EVENTS];
    for (;;) {
        int timeout = line_first ? (int)((line_first->due - wire_now()) / 1000000) + 1 : 1000;
        int count = epoll_wait(epoll, events, EVENTS, timeout < 0 ? 0 : timeout);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client == &listener) accept_all();
            else if (client == &control) {
                if (!read_commands()) return;
            } else if (wire_receive(&client->wire) == WIRE_CLOSED) end_client(client);
            else proceed(client);
        }
        answer_due();
    }
}

static void listen_on(int port) {
    struct sockaddr_in address = wire_loopback("127.0.0.1", port);
    socklen_t length = sizeof address;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(descriptor, (void *)&address, sizeof address) || listen(descriptor, 4096) || getsockname(descriptor, (void *)&address, &length)) {
        perror("sink: listen");
        exit(1);
    }
    wire_adopt(&listener.wire, descriptor, epoll, &listener);
    wire_adopt(&control.wire, STDIN_FILENO, epoll, &control);
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void start_tls_context(void) {
    if (!option.certificate || !option.key) return;
    tls_context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(tls_context, option.certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_context, option.key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "sink: cannot read %s or %s\n", option.certificate, option.key);
        exit(1);
    }
}

int main(int argc, char **argv) {
    static const struct option known[] = {{"port", 1, 0, 'p'}, {"delay-ms", 1, 0, 'd'}, {"rate", 1, 0, 'r'},
                                          {"certificate", 1, 0, 'c'}, {"key", 1, 0, 'k'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'p': option.port = atoi(optarg); break;
        case 'd': option.delay_ms = atof(optarg); break;
        case 'r': option.rate = atof(optarg); break;
        case 'c': option.certificate = optarg; break;
        case 'k': option.key = optarg; break;
        default: fputs("sink [--port N (0: any)] [--delay-ms MS] [--rate PER_SECOND] [--certificate PEM --key PEM]\n", stderr); return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* Ctrl-C goes to the driver, which ends our input */
    wire_raise_file_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    start_tls_context();
    listen_on(option.port);
    serve();
    return 0;
}
