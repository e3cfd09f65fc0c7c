/* Stand-in for OpenAI's Responses and Anthropic's Messages: one core, epoll, a fixed latency.
 *
 * fake_provider PORT LATENCY_MS RESPONSES_JSON MESSAGES_JSON [CERTIFICATE KEY]
 *
 * With a certificate it speaks TLS, where it was compiled WITH_TLS (by OpenSSL).
 * PORT 0 takes any; the port is printed. Since every request waits equally long, those that wait
 * form a ring in order of their due time: no heap, no timer of their own. GET /stats tells how many
 * were served, how many wait, and how many waited at most since it was last asked.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

enum { MOST_CONNECTIONS = 32768, RING = 1 << 17, EVENTS = 512 };
enum { FIRST_BUFFER = 16 << 10, LARGEST_REQUEST = 16 << 20, LARGEST_REPLY = 64 << 10 };
enum reply_kind { RESPONSES, MESSAGES, NOT_FOUND, STATS };

struct connection {
    char *buffer;
    size_t used, size;
    unsigned generation; /* tells a request of an earlier connection with the same number */
    SSL *tls;            /* NULL: it is not encrypted */
};

struct waiting {
    long due_us;
    int fd;
    unsigned generation;
    enum reply_kind kind;
};

struct reply {
    char *bytes;
    size_t length;
};

static struct connection connections[MOST_CONNECTIONS];
static struct waiting ring[RING];
static unsigned ring_head, ring_tail;
static struct reply replies[STATS];
static unsigned long served;
static unsigned most_waiting;
static long latency_us;
static int epoll_fd;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static struct reply make_reply(const char *status, const char *body) {
    struct reply made;
    int length = asprintf(&made.bytes,
                          "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
                          "x-request-id: req_8f7d2a6b5c4e3f2a1b0c9d8e7f6a5b4c\r\n"
                          "openai-processing-ms: 812\r\nopenai-version: 2020-10-01\r\n"
                          "x-ratelimit-limit-requests: 10000\r\n"
                          "x-ratelimit-remaining-requests: 9999\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          status, strlen(body), body);
    if (length < 0) fail("asprintf");
    made.length = (size_t)length;
    return made;
}

static struct reply reply_from_file(const char *path) {
    static char body[LARGEST_REPLY];
    FILE *file = fopen(path, "r");
    if (!file) fail(path);
    size_t length = fread(body, 1, sizeof body - 1, file);
    fclose(file);
    body[length] = 0;
    return make_reply("200 OK", body);
}

#ifdef WITH_TLS
static SSL_CTX *context;

static void use_certificate(const char *certificate, const char *key) {
    context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}

static void encrypt(int fd) {
    if (!context) return;
    connections[fd].tls = SSL_new(context);
    SSL_set_fd(connections[fd].tls, fd);
    SSL_set_accept_state(connections[fd].tls);
}

/* As read(2). The handshake is made in here; what it sends fits into a socket's buffer. */
static ssize_t receive(int fd, char *into, size_t room) {
    SSL *tls = connections[fd].tls;
    if (!tls) return read(fd, into, room);
    ERR_clear_error();
    int got = SSL_read(tls, into, (int)room);
    if (got > 0) return got;
    errno = EAGAIN;
    return SSL_get_error(tls, got) == SSL_ERROR_WANT_READ ? -1 : 0;
}

static ssize_t transmit(int fd, const char *bytes, size_t length) {
    SSL *tls = connections[fd].tls;
    if (!tls) return send(fd, bytes, length, MSG_NOSIGNAL);
    ERR_clear_error();
    return SSL_write(tls, bytes, (int)length);
}

/* Whether there is more that epoll knows nothing of. */
static int holds_more(int fd) { return connections[fd].tls && SSL_pending(connections[fd].tls); }

static void let_go(int fd) {
    SSL_free(connections[fd].tls);
    connections[fd].tls = NULL;
}
#else
static void use_certificate(const char *certificate, const char *key) {
    (void)certificate, (void)key;
    fprintf(stderr, "compiled without TLS\n");
    exit(2);
}
static void encrypt(int fd) { (void)fd; }
static ssize_t receive(int fd, char *into, size_t room) { return read(fd, into, room); }
static ssize_t transmit(int fd, const char *bytes, size_t length) {
    return send(fd, bytes, length, MSG_NOSIGNAL);
}
static int holds_more(int fd) { return (void)fd, 0; }
static void let_go(int fd) { (void)fd; }
#endif

static void hang_up(int fd) {
    struct connection *connection = &connections[fd];
    let_go(fd);
    free(connection->buffer);
    connection->buffer = NULL;
    connection->used = connection->size = 0;
    connection->generation++;
    close(fd);
}

/* A reply fits into a socket's buffer: one that does not go out whole means a client that has
 * stopped reading. */
static void answer(int fd, const char *bytes, size_t length) {
    if (transmit(fd, bytes, length) != (ssize_t)length) hang_up(fd);
}

static void answer_stats(int fd) {
    char body[160];
    snprintf(body, sizeof body, "{\"served\":%lu,\"waiting\":%u,\"most\":%u}", served,
             ring_tail - ring_head, most_waiting);
    most_waiting = ring_tail - ring_head;
    struct reply made = make_reply("200 OK", body);
    answer(fd, made.bytes, made.length);
    free(made.bytes);
}

static void serve(int fd, enum reply_kind kind) {
    served++;
    answer(fd, replies[kind].bytes, replies[kind].length);
}

static void accept_request(int fd, enum reply_kind kind, long arrived_us) {
    if (kind == STATS) {
        answer_stats(fd);
    } else if (latency_us == 0) {
        serve(fd, kind);
    } else if (ring_tail - ring_head == RING) {
        hang_up(fd);
    } else {
        ring[ring_tail++ % RING] =
            (struct waiting){arrived_us + latency_us, fd, connections[fd].generation, kind};
        if (ring_tail - ring_head > most_waiting) most_waiting = ring_tail - ring_head;
    }
}

static enum reply_kind kind_of(const char *head) {
    if (!strncmp(head, "POST /v1/responses ", 19)) return RESPONSES;
    if (!strncmp(head, "POST /v1/messages ", 18)) return MESSAGES;
    if (!strncmp(head, "GET /stats ", 11)) return STATS;
    return NOT_FOUND;
}

/* Take one whole request out of the buffer, or return 0. */
static int take_request(int fd, long arrived_us) {
    struct connection *connection = &connections[fd];
    if (!connection->buffer) return 0;
    char *end = memmem(connection->buffer, connection->used, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    char *given = strcasestr(connection->buffer, "\ncontent-length:");
    size_t body = given ? strtoul(given + 16, NULL, 10) : 0;
    enum reply_kind kind = kind_of(connection->buffer);
    *end = '\r';
    size_t whole = (size_t)(end - connection->buffer) + 4 + body;
    if (connection->used < whole) return 0;
    connection->used -= whole;
    memmove(connection->buffer, connection->buffer + whole, connection->used);
    accept_request(fd, kind, arrived_us);
    return 1;
}

static void make_room(struct connection *connection) {
    if (connection->used + 1 < connection->size) return;
    connection->size = connection->size ? connection->size * 2 : FIRST_BUFFER;
    connection->buffer = realloc(connection->buffer, connection->size);
    if (!connection->buffer) fail("realloc");
}

/* Read once; tell whether there is more that epoll knows nothing of. */
static int read_some(int fd, long arrived_us) {
    struct connection *connection = &connections[fd];
    make_room(connection);
    ssize_t got = receive(fd, connection->buffer + connection->used,
                          connection->size - connection->used - 1);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0 || connection->used + (size_t)got > LARGEST_REQUEST) {
        hang_up(fd);
        return 0;
    }
    connection->used += (size_t)got;
    connection->buffer[connection->used] = 0;
    while (take_request(fd, arrived_us)) {
    }
    return connection->buffer && holds_more(fd);
}

static void read_requests(int fd, long arrived_us) {
    while (read_some(fd, arrived_us)) {
    }
}

static void accept_connections(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST_CONNECTIONS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        encrypt(fd);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_on(int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address)) fail("bind");
    if (listen(fd, 4096)) fail("listen");
    getsockname(fd, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void serve_due(void) {
    long now = now_us();
    for (; ring_head != ring_tail && ring[ring_head % RING].due_us <= now; ring_head++) {
        struct waiting *due = &ring[ring_head % RING];
        if (connections[due->fd].generation == due->generation) serve(due->fd, due->kind);
    }
}

static int patience_ms(void) {
    if (ring_head == ring_tail) return -1;
    long left = ring[ring_head % RING].due_us - now_us();
    return left <= 0 ? 0 : (int)((left + 999) / 1000);
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 7) {
        fprintf(stderr, "usage: %s PORT LATENCY_MS RESPONSES_JSON MESSAGES_JSON [CERTIFICATE KEY]\n",
                argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (argc == 7) use_certificate(argv[5], argv[6]);
    latency_us = (long)(atof(argv[2]) * 1000);
    replies[RESPONSES] = reply_from_file(argv[3]);
    replies[MESSAGES] = reply_from_file(argv[4]);
    replies[NOT_FOUND] = make_reply("404 Not Found", "{\"error\":{\"message\":\"not found\"}}");
    epoll_fd = epoll_create1(0);
    int listener = listen_on(atoi(argv[1]));
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS, patience_ms());
        long arrived_us = now_us();
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_connections(listener);
            else
                read_requests(events[i].data.fd, arrived_us);
        }
        serve_due();
    }
}
