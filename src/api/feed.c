/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/feed.h"

#include "base/cleanup.h"

#include <string.h>
#include <time.h>

struct feed_line {
    unsigned refs; /* the feed, and readers that have begun with it */
    size_t text, len;
    char bytes[]; /* as a server-sent event; from `text` on as a line, without the second newline */
};

struct feed {
    struct feed_line *lines[FEED_LINES]; /* by number; NULL: there was no memory for it */
    uint64_t first, end;
    size_t bytes;
};

static void let_go(struct feed_line *line)
{
    if (line && --line->refs == 0)
        free(line);
}

static struct feed_line *make_line(const json_t *event)
{
    static const char head[] = "event: ", middle[] = "\ndata: ";
    auto_free char *text = json_dumps(event, JSON_COMPACT);
    const char *type = json_string_value(json_object_get(event, "type"));
    if (!text)
        return NULL;
    size_t n_type = type ? strlen(type) : 0, n_text = strlen(text);
    size_t at = sizeof(head) - 1 + n_type + sizeof(middle) - 1;
    struct feed_line *line = malloc(sizeof(*line) + at + n_text + 2);
    if (!line)
        return NULL;
    *line = (struct feed_line){.refs = 1, .text = at, .len = at + n_text + 2};
    char *p = mempcpy(line->bytes, head, sizeof(head) - 1);
    p = type ? mempcpy(p, type, n_type) : p;
    p = mempcpy(p, middle, sizeof(middle) - 1);
    p = mempcpy(p, text, n_text);
    memcpy(p, "\n\n", 2);
    return line;
}

static struct feed_line *lost_line(uint64_t count)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_t *event =
        json_pack("{s:I,s:s,s:I}", "time", (json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                  "type", "events.lost", "count", (json_int_t)count);
    struct feed_line *line = make_line(event);
    json_decref(event);
    return line;
}

static void drop_first(struct feed *f)
{
    struct feed_line **line = &f->lines[f->first++ % FEED_LINES];
    f->bytes -= *line ? (*line)->len : 0;
    let_go(steal_ptr(line));
}

int feed_open(struct feed **ret, struct err *err)
{
    *ret = calloc(1, sizeof(**ret));
    return *ret ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory for events");
}

void feed_close(struct feed *f)
{
    if (f)
        feed_trim(f, f->end);
    free(f);
}

void feed_add(struct feed *f, const json_t *event)
{
    struct feed_line *line = make_line(event);
    size_t len = line ? line->len : 0;
    while (f->first < f->end && (f->end - f->first == FEED_LINES || f->bytes + len > FEED_BYTES))
        drop_first(f);
    f->lines[f->end++ % FEED_LINES] = line;
    f->bytes += len;
}

void feed_join(const struct feed *f, struct feed_reader *r)
{
    r->at = f->end;
}

void feed_leave(struct feed_reader *r)
{
    let_go(steal_ptr(&r->now));
}

/* Begins what comes next.  False: nothing does. */
static bool next_line(struct feed *f, struct feed_reader *r)
{
    uint64_t lost = r->at < f->first ? f->first - r->at : 0;
    r->at += lost;
    while (r->at < f->end && !f->lines[r->at % FEED_LINES]) {
        lost++;
        r->at++;
    }
    if (lost) {
        r->now = lost_line(lost);
        r->at -= r->now ? 0 : lost; /* told when there is memory */
    } else if (r->at < f->end) {
        r->now = f->lines[r->at++ % FEED_LINES];
        r->now->refs++;
    }
    r->sent = r->now && !r->sse ? r->now->text : 0;
    return r->now;
}

size_t feed_read(struct feed *f, struct feed_reader *r, char *buf, size_t max)
{
    size_t done = 0;
    while (done < max && (r->now || next_line(f, r))) {
        size_t end = r->now->len - (r->sse ? 0 : 1), n = end - r->sent;
        if (n > max - done)
            n = max - done;
        memcpy(buf + done, r->now->bytes + r->sent, n);
        done += n;
        r->sent += n;
        if (r->sent == end)
            let_go(steal_ptr(&r->now));
    }
    return done;
}

void feed_trim(struct feed *f, uint64_t at)
{
    while (f->first < f->end && f->first < at)
        drop_first(f);
}

uint64_t feed_end(const struct feed *f)
{
    return f->end;
}

size_t feed_bytes(const struct feed *f)
{
    return f->bytes;
}
