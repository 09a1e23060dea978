/*
 * Classify one sample:   ./network FILE
 *
 * FILE holds little-endian float32 values, prepared as network.h says: one image [CHANNELS][HEIGHT][WIDTH], which is
 * held for STEPS time steps, or the frames of a sequence, one after another, each of that size.
 * A microcontroller needs model.c, model_data.c and network.h alone; this file shows how they are used.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "network.h"

#define FRAME_VALUES (CHANNELS * HEIGHT * WIDTH)
#define FRAME_BYTES (4L * FRAME_VALUES)

static float frame[1][CHANNELS][HEIGHT][WIDTH];
static float logits[1][CLASSES];
static float mean[CLASSES];
static State states[2]; /* of this step and of the next; static, so all 0 at the start: neurons at rest */

/* How many frames a file holds; 0 where its size is not that of whole frames. */
static long count_frames(FILE *file)
{
    if (fseek(file, 0, SEEK_END) != 0)
        return 0;
    long size = ftell(file);
    rewind(file);
    return size > 0 && size % FRAME_BYTES == 0 ? size / FRAME_BYTES : 0;
}

/* Read the next frame, on a machine of either byte order; false where it ends or holds what is no number. */
static bool read_frame(FILE *file)
{
    static unsigned char bytes[4 * FRAME_VALUES];
    float *values = &frame[0][0][0][0];

    if (fread(bytes, 4, FRAME_VALUES, file) != FRAME_VALUES)
        return false;
    for (long i = 0; i < FRAME_VALUES; i++) {
        const unsigned char *b = bytes + 4 * i;
        uint32_t bits = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        memcpy(&values[i], &bits, sizeof bits);
        if (!isfinite(values[i]))
            return false;
    }
    return true;
}

static bool load_weights(void)
{
#if WEIGHTS_IN_FILE
    FILE *file = fopen(WEIGHTS_FILE, "rb"); /* model_load has words of its own for a file that is not there */
    if (file == NULL)
        return false;
    fclose(file);
    return model_load(WEIGHTS_FILE);
#else
    return true;
#endif
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE   (float32 frames of %d x %d x %d)\n", argv[0], CHANNELS, HEIGHT, WIDTH);
        return 2;
    }
    if (!load_weights()) {
        fprintf(stderr, "%s: missing or too short; run the program in its folder\n", WEIGHTS_FILE);
        return 4;
    }
    FILE *file = fopen(argv[1], "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: cannot be opened\n", argv[1]);
        return 3;
    }
    long frames = count_frames(file);
    if (frames == 0) {
        fprintf(stderr, "%s: must hold whole frames of %ld bytes (float32, %d x %d x %d), at least one\n", argv[1],
                FRAME_BYTES, CHANNELS, HEIGHT, WIDTH);
        return 3;
    }
    long steps = HOLDS_IMAGE && frames == 1 ? STEPS : frames;
    if (HAS_STEP_WEIGHTS && steps != STEPS) {
        fprintf(stderr, "%s: has %ld frames; the network weighs each of its %d time steps\n", argv[1], frames, STEPS);
        return 3;
    }

    for (long t = 0; t < steps; t++) {
        if (t < frames && !read_frame(file)) {
            fprintf(stderr, "%s: cannot be read, or holds infinite values or no numbers\n", argv[1]);
            return 3;
        }
        logits[0][0] = NAN; /* stays so where step() finds no memory */
        step(frame, &states[t % 2], logits, &states[(t + 1) % 2]);
        if (isnan(logits[0][0])) {
            fprintf(stderr, "not enough memory for a time step\n");
            return 1;
        }
        float weight = HAS_STEP_WEIGHTS ? step_weights[t] : 1.0f;
        for (int k = 0; k < CLASSES; k++)
            mean[k] += weight * logits[0][k] / (float)steps;
    }
    fclose(file);

    int best = 0;
    for (int k = 1; k < CLASSES; k++)
        if (mean[k] > mean[best])
            best = k;
    printf("class %d: %s\n", best, class_names[best]);
    for (int k = 0; k < CLASSES; k++)
        printf("%16.9g  %s\n", (double)mean[k], class_names[k]);
    return 0;
}
