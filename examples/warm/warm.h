/* For programs that are templates of containers: where their clones begin, and what each of them needs of its own. */
#ifndef WARM_H
#define WARM_H

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* Stops this process, so that a template can be taken. Returns in each clone, where rand(), random() and drand48() have
   other seeds; 0, or -1 if the kernel gave none. Generators of libraries are the program's to seed: for OpenSSL,
   RAND_add(). Layout of the address space and stack protector stay those of the template. */
static inline int warm_ready(void) {
    unsigned seeds[3];
    unsigned short seed48_words[3];
    raise(SIGSTOP);
    if (getrandom(seeds, sizeof seeds, 0) != (ssize_t)sizeof seeds)
        return -1;
    srand(seeds[0]);
    srandom(seeds[1]);
    memcpy(seed48_words, &seeds[1], sizeof seed48_words);
    seed48(seed48_words);
    return 0;
}

/* Writes the id of this clone to `id`, cut to `size` bytes; its length, or -1 if this process is no clone. getenv() has the
   environment of the template. */
static inline long warm_clone(char *id, size_t size) {
    static const char name[] = "COFFERDAM_CLONE=";
    char text[65536];
    size_t length = 0;
    ssize_t got;
    int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || size == 0)
        return -1;
    while (length < sizeof text - 1 && (got = read(fd, text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)got;
    close(fd);
    text[length] = 0;
    for (const char *at = text; at < text + length; at += strlen(at) + 1) {
        if (strncmp(at, name, sizeof name - 1) != 0)
            continue;
        size_t found = strlen(at + sizeof name - 1);
        if (found >= size)
            found = size - 1;
        memcpy(id, at + sizeof name - 1, found);
        id[found] = 0;
        return (long)found;
    }
    return -1;
}

#endif
