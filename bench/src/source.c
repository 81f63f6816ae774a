/* source: SMTP load for one gateway on loopback, from one epoll thread.
 *
 * Each session sends one message after the other, waiting for each reply as ordinary clients do (--pipeline: MAIL, RCPT
 * and DATA in one write). Every message has its own recipient, Message-ID, greeting and unsubscribe link, and a field
 *     X-Bench: <run> <id> <stamp> <octets of body>
 * by which the sink counts unique messages, finds truncated ones and measures the way from here to there. The stamp is
 * the moment the message was begun (connect for the first of a connection); with --rate it is the moment it was DUE, so
 * that a stalled server cannot hide the messages that it kept from being sent.
 *
 * Result: one JSON object on standard output. SOURCE_USER and SOURCE_PASSWORD in the environment switch AUTH PLAIN on.
 */
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINE_OCTETS = 78, EVENTS = 256, HOLD_RAMP = 64 };
static const int64_t BACK_OFF = 50 * 1000000; /* nanoseconds before a refused or lost connection is tried again */

enum step { CLOSED, BANNER, EHLO, STARTTLS, AUTH, READY, MAIL, RCPT, DATA, BODY, RSET, QUIT };
enum tls { TLS_OFF, TLS_STARTTLS, TLS_IMPLICIT };

struct session {
    struct wire wire;
    enum step step;
    bool queued;       /* stands in the line of sessions that may begin a message */
    bool secured;      /* EHLO after STARTTLS has been or is being sent */
    int sent;          /* messages finished on this connection */
    long id;           /* message in hand, or -1 */
    int64_t begun, ended, not_before;
    struct session *next;
};

static struct {
    const char *host, *from, *domain, *recipient, *credentials;
    int port, sessions, per_connection, domains;
    long run, count, size, first_recipient, recipients, max_failures;
    double seconds, rate, grace;
    enum tls tls;
    bool pipeline, notice, hold;
} option = {.host = "127.0.0.1", .from = "news@sender.example", .recipient = "rcpt%d@dest%d.example", .sessions = 20, .domains = 10,
            .size = 10240, .recipients = 1000000, .max_failures = 1000, .seconds = 8, .grace = 30};

static struct {
    long next, accepted, failed, in_doubt, connections, opening, ready;
    long replies[1000]; /* unwanted replies by code; 0: connection lost */
    char first_error[512];
    int64_t started, last_reply;
    struct samples end_of_data, whole, late;
} tally;

static int epoll;
static SSL_CTX *tls_context;
static struct session *line_first, *line_last;
static char *filler; /* body text, lines of LINE_OCTETS including CRLF */
static char date[64];
static volatile sig_atomic_t interrupted;

static void enqueue(struct session *session) {
    if (session->queued) return;
    session->queued = true;
    session->next = NULL;
    if (line_last) line_last->next = session;
    else line_first = session;
    line_last = session;
}

static struct session *dequeue(void) {
    struct session *session = line_first;
    line_first = session->next;
    if (!line_first) line_last = NULL;
    session->queued = false;
    return session;
}

/* The recipient of message `id`: the first %d of the pattern is its number, a second one that number modulo --domains. */
static void recipient_of(long id, char *text, size_t room) {
    long number = (option.first_recipient + id) % option.recipients;
    size_t length = 0;
    int field = 0;
    for (const char *p = option.recipient; *p && length + 24 < room; p++) {
        if (p[0] == '%' && p[1] == 'd') {
            length += (size_t)snprintf(text + length, room - length, "%ld", field++ ? number % option.domains : number);
            p++;
        } else text[length++] = *p;
    }
    text[length] = 0;
}

static void note(int code, const char *line) {
    tally.replies[code >= 0 && code < 1000 ? code : 0]++;
    if (!*tally.first_error) snprintf(tally.first_error, sizeof tally.first_error, "%s", line);
}

static void drop(struct session *session) {
    if (session->step > CLOSED && session->step < READY) tally.opening--;
    if (option.hold && session->step == READY) tally.ready--;
    if (session->id >= 0) {
        if (session->step == BODY) tally.in_doubt++;
        else tally.failed++;
        session->id = -1;
    }
    wire_close(&session->wire);
    session->step = CLOSED;
    enqueue(session);
}

static void lost(struct session *session, const char *why) {
    bool expected = session->step == QUIT || (session->step == READY && !option.hold);
    if (!expected) {
        note(0, why);
        session->not_before = wire_now() + BACK_OFF;
    }
    drop(session);
}

static void flush(struct session *session) {
    if (wire_flush(&session->wire) == WIRE_CLOSED) lost(session, "connection lost while writing");
}

static void say(struct session *session, enum step step, const char *text) {
    session->step = step;
    wire_say(&session->wire, text, strlen(text));
    flush(session);
}

static void open_connection(struct session *session) {
    struct sockaddr_in address = wire_loopback(option.host, option.port);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0 || (connect(descriptor, (void *)&address, sizeof address) && errno != EINPROGRESS)) {
        perror("connect");
        exit(1);
    }
    wire_adopt(&session->wire, descriptor, epoll, session);
    session->step = BANNER;
    session->sent = 0;
    session->secured = option.tls == TLS_IMPLICIT;
    tally.connections++;
    tally.opening++;
    if (session->secured) {
        wire_begin_tls(&session->wire, tls_context, false);
        flush(session);
    }
}

static void say_envelope(struct session *session) {
    char text[1024], recipient[320];
    if (option.pipeline) {
        recipient_of(session->id, recipient, sizeof recipient);
        snprintf(text, sizeof text, "MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n", option.from, recipient);
    } else snprintf(text, sizeof text, "MAIL FROM:<%s>\r\n", option.from);
    say(session, MAIL, text);
}

static void say_recipient(struct session *session) {
    char text[512], recipient[320];
    recipient_of(session->id, recipient, sizeof recipient);
    snprintf(text, sizeof text, "RCPT TO:<%s>\r\n", recipient);
    say(session, RCPT, text);
}

/* The lines that differ from message to message. A newsletter carries all that bulk-mail rules ask for; a notice nothing of it. */
static int print_top(char *text, size_t room, long id, const char *recipient) {
    if (option.notice)
        return snprintf(text, room, "Hello %s,\r\n\r\nYour sign-in code is %06ld. It is valid for ten minutes.\r\n\r\n", recipient, id % 1000000);
    return snprintf(text, room,
                    "Hello %s,\r\n\r\nYou get this newsletter of Sender Example B.V. because you asked for it.\r\n"
                    "Unsubscribe: https://%s/u/%ld.%08ld\r\n\r\n", recipient, option.domain, option.run, id);
}

static int print_head(char *text, size_t room, const struct session *session, const char *recipient, size_t body) {
    long id = session->id;
    int length = snprintf(text, room,
        "From: Sender Example <%s>\r\nTo: <%s>\r\nSubject: %s %ld\r\nDate: %s\r\nMessage-ID: <%ld.%08ld.%lld@%s>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n",
        option.from, recipient, option.notice ? "Your sign-in code, request" : "Ten things to read this week, number", id, date, option.run, id,
        (long long)tally.started, option.domain);
    if (!option.notice)
        length += snprintf(text + length, room - (size_t)length,
            "List-Id: Sender Example news <news.%s>\r\nList-Unsubscribe: <https://%s/u/%ld.%08ld>\r\n"
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", option.domain, option.domain, option.run, id);
    return length + snprintf(text + length, room - (size_t)length, "X-Bench: %ld %08ld %lld %08zu\r\n\r\n", option.run, id,
                             (long long)session->begun, body);
}

/* Head and personal lines are printed; the rest of the size comes out of the shared filler, uncopied. */
static void say_message(struct session *session) {
    char recipient[320], top[1024], head[4096];
    recipient_of(session->id, recipient, sizeof recipient);
    size_t top_length = (size_t)print_top(top, sizeof top, session->id, recipient);
    size_t head_length = (size_t)print_head(head, sizeof head, session, recipient, 0);
    size_t rest = (size_t)option.size > head_length + top_length ? (size_t)option.size - head_length - top_length : 0;
    size_t odd = rest % LINE_OCTETS;
    if (odd >= 2) { /* the last, shorter line goes on top, so that the shared part is whole lines */
        memset(top + top_length, '-', odd - 2);
        memcpy(top + top_length + odd - 2, "\r\n", 2);
        top_length += odd;
    }
    rest -= odd;
    print_head(head, sizeof head, session, recipient, top_length + rest);
    session->step = BODY;
    wire_say(&session->wire, head, head_length);
    wire_say(&session->wire, top, top_length);
    wire_say_shared(&session->wire, filler, rest, ".\r\n", 3);
    session->ended = wire_now();
    flush(session);
}

static void finish(struct session *session) {
    int64_t now = wire_now();
    tally.accepted++;
    tally.last_reply = now;
    samples_add(&tally.end_of_data, (double)(now - session->ended) / 1e6);
    samples_add(&tally.whole, (double)(now - session->begun) / 1e6);
    session->id = -1;
    session->sent++;
    if (option.per_connection && session->sent >= option.per_connection) {
        say(session, QUIT, "QUIT\r\n");
        return;
    }
    session->step = READY;
    enqueue(session);
}

static void refused(struct session *session, int code, const char *line) {
    note(code, line);
    /* After 421, before a session stands, or with commands in flight behind the failed one: a new connection is the sure way. */
    if (code == 421 || session->step < READY || option.pipeline) {
        session->not_before = wire_now() + BACK_OFF;
        drop(session);
        return;
    }
    if (session->id >= 0) {
        session->id = -1;
        tally.failed++;
    }
    if (session->step == QUIT || session->step == RSET) drop(session);
    else say(session, RSET, "RSET\r\n");
}

static void stand_ready(struct session *session) {
    tally.opening--;
    session->step = READY;
    if (option.hold) tally.ready++;
    else if (session->id >= 0) say_envelope(session);
    else enqueue(session);
}

static void say_hello_done(struct session *session) {
    if (option.tls == TLS_STARTTLS && !session->secured) {
        say(session, STARTTLS, "STARTTLS\r\n");
    } else if (option.credentials) {
        char text[1024];
        snprintf(text, sizeof text, "AUTH PLAIN %s\r\n", option.credentials);
        say(session, AUTH, text);
    } else stand_ready(session);
}

static void secure(struct session *session) {
    session->secured = true;
    wire_begin_tls(&session->wire, tls_context, false);
    say(session, EHLO, "EHLO client.example\r\n");
}

static void on_reply(struct session *session, int code, const char *line) {
    static const int wanted[] = {[BANNER] = 220, [EHLO] = 250, [STARTTLS] = 220, [AUTH] = 235, [MAIL] = 250, [RCPT] = 250,
                                 [DATA] = 354, [BODY] = 250, [RSET] = 250, [QUIT] = 221};
    if (session->step == READY || wanted[session->step] != code) {
        refused(session, code, line);
        return;
    }
    switch (session->step) {
    case BANNER: say(session, EHLO, "EHLO client.example\r\n"); break;
    case EHLO: say_hello_done(session); break;
    case STARTTLS: secure(session); break;
    case AUTH: stand_ready(session); break;
    case MAIL:
        if (option.pipeline) session->step = RCPT;
        else say_recipient(session);
        break;
    case RCPT:
        if (option.pipeline) session->step = DATA;
        else say(session, DATA, "DATA\r\n");
        break;
    case DATA: say_message(session); break;
    case BODY: finish(session); break;
    case RSET:
        session->step = READY;
        enqueue(session);
        break;
    default: drop(session); break;
    }
}

static void on_input(struct session *session) {
    enum wire_status status = wire_receive(&session->wire);
    if (status == WIRE_OK && !wire_is_idle(&session->wire)) flush(session); /* the TLS handshake held it up */
    while (session->step != CLOSED) {
        struct buffer *in = &session->wire.in;
        char *end = in->length ? memchr(in->data, '\n', in->length) : NULL;
        if (!end) break;
        size_t length = (size_t)(end - in->data) + 1;
        char line[512];
        size_t text = length < sizeof line ? length : sizeof line - 1;
        memcpy(line, in->data, text);
        while (text && (line[text - 1] == '\n' || line[text - 1] == '\r')) text--;
        line[text] = 0;
        buffer_consume(in, length);
        if (text < 4 || line[3] != '-') on_reply(session, atoi(line), line);
    }
    if (status == WIRE_CLOSED && session->step != CLOSED) lost(session, "connection closed by the server");
}

/* Whether a message may be begun now, and the moment it was due: now, or its place in the --rate. */
static bool may_begin(int64_t now, int64_t *due) {
    if (interrupted || tally.failed >= option.max_failures || now - tally.started >= (int64_t)(option.seconds * 1e9)) return false;
    if (option.count && tally.next >= option.count) return false;
    *due = now;
    if (option.rate > 0) *due = tally.started + (int64_t)((double)tally.next / option.rate * 1e9);
    return *due <= now;
}

static void begin(struct session *session, int64_t now, int64_t due) {
    session->id = tally.next++;
    session->begun = due;
    if (option.rate > 0) samples_add(&tally.late, (double)(now - due) / 1e6);
    if (session->step == CLOSED) open_connection(session);
    else say_envelope(session);
}

/* Gives every waiting session that may go its next thing to do; looks at each at most once. */
static void serve_line(void) {
    int64_t now = wire_now(), due = now;
    struct session *last = line_last;
    while (line_first && (option.hold || may_begin(now, &due))) {
        struct session *session = dequeue();
        if (session->step == CLOSED && session->not_before > now) enqueue(session);
        else if (!option.hold) begin(session, now, due);
        else if (tally.opening < HOLD_RAMP) open_connection(session);
        else enqueue(session);
        if (session == last) break;
    }
}

static bool busy(const struct session *sessions) {
    for (int i = 0; i < option.sessions; i++)
        if (sessions[i].id >= 0) return true;
    return false;
}

static void poll_once(int timeout) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, timeout);
    for (int i = 0; i < count; i++) {
        struct session *session = events[i].data.ptr;
        if (session->step == CLOSED) continue;
        if (events[i].events & EPOLLOUT) flush(session);
        if (session->step != CLOSED && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_input(session);
    }
}

static void send_load(const struct session *sessions) {
    int64_t stop = tally.started + (int64_t)(option.seconds * 1e9), limit = stop + (int64_t)(option.grace * 1e9);
    for (;;) {
        int64_t now = wire_now();
        bool over = interrupted || now >= stop || (option.count && tally.next >= option.count) || tally.failed >= option.max_failures;
        if ((over && !busy(sessions)) || now >= limit) break;
        serve_line();
        poll_once(option.rate > 0 ? 1 : 20);
    }
}

/* Opens every session, says so, and keeps them open and silent until standard input ends. */
static void hold_sessions(void) {
    bool told = false;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    for (;;) {
        serve_line();
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, 20);
        for (int i = 0; i < count; i++) {
            struct session *session = events[i].data.ptr;
            if (!session) return;
            if (session->step == CLOSED) continue;
            if (events[i].events & EPOLLOUT) flush(session);
            if (session->step != CLOSED && events[i].events & ~(uint32_t)EPOLLOUT) on_input(session);
        }
        if (interrupted || tally.replies[0] > option.max_failures) return;
        if (!told && tally.ready >= option.sessions) {
            told = true;
            printf("ready %ld\n", tally.ready);
            fflush(stdout);
            epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
        }
    }
}

static void print_result(void) {
    const char *comma = "";
    printf("{\"run\":%ld,\"accepted\":%ld,\"failed\":%ld,\"in_doubt\":%ld,\"connections\":%ld,\"held\":%ld,\"started_ns\":%lld,\"last_reply_ns\":%lld,",
           option.run, tally.accepted, tally.failed, tally.in_doubt, tally.connections, tally.ready, (long long)tally.started, (long long)tally.last_reply);
    printf("\"errors\":{");
    for (int code = 0; code < 1000; code++)
        if (tally.replies[code]) {
            printf("%s\"%d\":%ld", comma, code, tally.replies[code]);
            comma = ",";
        }
    printf("},\"first_error\":");
    print_json_string(tally.first_error);
    putchar(',');
    samples_print(&tally.end_of_data, "end_of_data_ms");
    putchar(',');
    samples_print(&tally.whole, "whole_ms");
    putchar(',');
    samples_print(&tally.late, "late_ms");
    puts("}");
}

static void make_filler(void) {
    static const char *words[] = {"seal", "letter", "garden", "market", "window", "river", "ticket", "reading", "city", "season",
                                  "recipe", "museum", "bicycle", "weather", "harbour", "evening", "station", "orchard", "bridge", "story"};
    size_t lines = (size_t)option.size / LINE_OCTETS + 2;
    filler = wire_allocate(lines * LINE_OCTETS);
    uint32_t seed = 12345;
    for (size_t line = 0; line < lines; line++) {
        char *p = filler + line * LINE_OCTETS, *end = p + LINE_OCTETS - 2;
        while (p < end) {
            seed = seed * 1664525 + 1013904223;
            for (const char *word = words[(seed >> 16) % 20]; *word && p < end; word++) *p++ = *word;
            if (p < end) *p++ = ' ';
        }
        if (end[-1] == ' ') end[-1] = '.'; /* a space before the line end might be mended on the way */
        memcpy(end, "\r\n", 2);
    }
}

static void encode_credentials(void) {
    const char *user = getenv("SOURCE_USER"), *password = getenv("SOURCE_PASSWORD");
    if (!user || !*user || !password) return;
    unsigned char plain[512], encoded[1024];
    int length = snprintf((char *)plain, sizeof plain, "%c%s%c%s", 0, user, 0, password);
    if (length <= 0 || length >= (int)sizeof plain) exit(2);
    EVP_EncodeBlock(encoded, plain, length);
    option.credentials = strdup((char *)encoded);
}

static void usage(void) {
    fputs("source --port N [--host 127.x] [--sessions N] [--per-connection N (0: never leave)] [--seconds S] [--count N] [--size OCTETS]\n"
          "       [--rate MESSAGES_PER_SECOND] [--tls off|starttls|implicit] [--run N] [--from ADDRESS] [--recipient PATTERN] [--domains N]\n"
          "       [--first-recipient N] [--recipients N] [--max-failures N] [--grace S] [--pipeline] [--notice] [--hold]\n", stderr);
    exit(2);
}

static enum tls tls_mode(const char *name) {
    if (!strcmp(name, "off")) return TLS_OFF;
    if (!strcmp(name, "starttls")) return TLS_STARTTLS;
    if (!strcmp(name, "implicit")) return TLS_IMPLICIT;
    usage();
    return TLS_OFF;
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"sessions", 1, 0, 's'}, {"per-connection", 1, 0, 'c'}, {"seconds", 1, 0, 't'},
        {"count", 1, 0, 'n'}, {"size", 1, 0, 'b'}, {"rate", 1, 0, 'r'}, {"tls", 1, 0, 'T'}, {"run", 1, 0, 'R'}, {"from", 1, 0, 'f'},
        {"recipient", 1, 0, 'a'}, {"domains", 1, 0, 'd'}, {"first-recipient", 1, 0, 'i'}, {"recipients", 1, 0, 'm'},
        {"max-failures", 1, 0, 'x'}, {"grace", 1, 0, 'g'}, {"pipeline", 0, 0, 'P'}, {"notice", 0, 0, 'N'}, {"hold", 0, 0, 'H'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'h': option.host = optarg; break;
        case 'p': option.port = atoi(optarg); break;
        case 's': option.sessions = atoi(optarg); break;
        case 'c': option.per_connection = atoi(optarg); break;
        case 't': option.seconds = atof(optarg); break;
        case 'n': option.count = atol(optarg); break;
        case 'b': option.size = atol(optarg); break;
        case 'r': option.rate = atof(optarg); break;
        case 'T': option.tls = tls_mode(optarg); break;
        case 'R': option.run = atol(optarg); break;
        case 'f': option.from = optarg; break;
        case 'a': option.recipient = optarg; break;
        case 'd': option.domains = atoi(optarg); break;
        case 'i': option.first_recipient = atol(optarg); break;
        case 'm': option.recipients = atol(optarg); break;
        case 'x': option.max_failures = atol(optarg); break;
        case 'g': option.grace = atof(optarg); break;
        case 'P': option.pipeline = true; break;
        case 'N': option.notice = true; break;
        case 'H': option.hold = true; break;
        default: usage();
        }
    }
    const char *at = strrchr(option.from, '@');
    if (option.port < 1 || option.sessions < 1 || option.domains < 1 || option.recipients < 1 || option.size < 0 || !at) usage();
    if (strlen(option.from) > 254 || strlen(option.recipient) > 254) usage();
    option.domain = at + 1;
}

static void on_signal(int number) {
    (void)number;
    interrupted = 1;
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    wire_raise_file_limit();
    encode_credentials();
    make_filler();
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", gmtime_r(&now, &utc));
    /* Not verified on purpose: the certificate is the gateway's own self-signed one and the peer is this machine. */
    if (option.tls != TLS_OFF) tls_context = SSL_CTX_new(TLS_client_method());
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct session *sessions = wire_allocate(sizeof *sessions * (size_t)option.sessions);
    for (int i = 0; i < option.sessions; i++) {
        sessions[i].wire.descriptor = -1;
        sessions[i].id = -1;
        enqueue(&sessions[i]);
    }
    tally.started = wire_now();
    if (option.hold) hold_sessions();
    else send_load(sessions);
    for (int i = 0; i < option.sessions; i++) {
        if (sessions[i].id >= 0 && sessions[i].step == BODY) tally.in_doubt++;
        else if (sessions[i].id >= 0) tally.failed++;
        if (sessions[i].step == READY) say(&sessions[i], QUIT, "QUIT\r\n");
        if (sessions[i].step != CLOSED) wire_close(&sessions[i].wire);
    }
    print_result();
    return tally.accepted || option.hold ? 0 : 3;
}
