/* Reads the intent of a channel from C, as a game engine would; the layout is told in studium/intents/layout.py.
 *
 *     cc -O2 -o read_intent read_intent.c && ./read_intent WORKSPACE/intents/npc-1.intent
 *
 * Open once, then call read_intent() every frame. Little-endian machines with CLOCK_MONOTONIC.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 64, SLOTS = 4, HEAD = 64, TEXT = 4096, FALLBACK = 1024, SLOT = HEAD + TEXT + FALLBACK };
enum { IS_JSON = 1, EMPTY = 2 };

struct head {
    uint64_t sequence, written_ns, observed_ns;
    double horizon_s, blend_s, confidence;
    uint32_t flags, text_bytes, fallback_bytes, sum;
};

static uint32_t crc32(const unsigned char *data, size_t length) {
    uint32_t sum = ~0u;
    while (length--) {
        sum ^= *data++;
        for (int bit = 0; bit < 8; bit++) sum = (sum >> 1) ^ (0xEDB88320u & -(sum & 1u));
    }
    return ~sum;
}

/* Copies the newest intent into `text` (TEXT + 1 bytes); 1 fresh, 0 stale or none (then the fallback), -1 unreadable. */
static int read_intent(const unsigned char *file, char *text) {
    static _Thread_local unsigned char slot[SLOT], summed[SLOT];
    for (int tries = 0; tries < 64; tries++) {
        uint64_t count = __atomic_load_n((const uint64_t *)(file + 16), __ATOMIC_ACQUIRE);
        struct head head;
        if (count == 0) return -1;
        memcpy(slot, file + HEADER + count % SLOTS * SLOT, SLOT);
        memcpy(&head, slot, HEAD);
        if (head.sequence != count || head.text_bytes > TEXT || head.fallback_bytes > FALLBACK) continue;
        memcpy(summed, slot, HEAD - 4);
        memcpy(summed + HEAD - 4, slot + HEAD, head.text_bytes + head.fallback_bytes);
        if (head.sum != crc32(summed, HEAD - 4 + head.text_bytes + head.fallback_bytes)) continue;
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        double age_s = (double)((int64_t)(now.tv_sec * 1000000000LL + now.tv_nsec) - (int64_t)head.observed_ns) / 1e9;
        int fresh = !(head.flags & EMPTY) && age_s < head.horizon_s;
        int falls_back = (head.flags & EMPTY) || (!fresh && head.fallback_bytes);
        size_t length = falls_back ? head.fallback_bytes : head.text_bytes;
        memcpy(text, slot + HEAD + (falls_back ? head.text_bytes : 0), length);
        text[length] = 0;
        return fresh;
    }
    return -1;
}

int main(int count, char **arguments) {
    char text[TEXT + 1];
    int file = count == 2 ? open(arguments[1], O_RDONLY) : -1;
    size_t bytes = HEADER + SLOTS * SLOT;
    if (file < 0 || lseek(file, 0, SEEK_END) != (off_t)bytes) return 2;
    const unsigned char *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED || memcmp(mapped, "STUDINT1", 8) != 0) return 2;
    int state = read_intent(mapped, text);
    if (state < 0) return 1;
    printf("%s %s\n", state ? "fresh" : "stale", text);
    return 0;
}
