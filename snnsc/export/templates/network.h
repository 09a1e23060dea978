/* What model.c needs and gives: sizes, the states of the neurons, and one time step. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdbool.h>

/* $preparation */
#define CHANNELS $channels
#define HEIGHT $height
#define WIDTH $width
#define CLASSES $classes
#define STEPS $steps /* time steps that the network was trained for */
#define HOLDS_IMAGE $holds_image /* 1: a single frame is an image, held for STEPS */

static const char *const class_names[CLASSES] = {
    $class_names,
};

/* What the logits of each step are multiplied by before they are averaged; not used where HAS_STEP_WEIGHTS is 0. */
#define HAS_STEP_WEIGHTS $has_step_weights
static const float step_weights[] = {$step_weights};

/* 0: the weights are in model_data.c. 1: they are in WEIGHTS_FILE, and model_load is called before anything else. */
#define WEIGHTS_IN_FILE $weights_in_file
#define WEIGHTS_FILE "$weights_file"
_Bool model_load(const char *path);

/* What every neuron keeps from step to step; 0 before the first. */
typedef struct {
    $states
} State;

void model($parameters);

/* One time step: a frame and the states before it give logits and the states after it, which is another variable. */
static inline void step(float frame[1][CHANNELS][HEIGHT][WIDTH], State *now, float logits[1][CLASSES], State *next)
{$discarded
    model($arguments);
}

#endif
