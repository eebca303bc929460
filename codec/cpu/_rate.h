/* Bits and gradients of some latents of one row of a grid, for one instruction set: included by
 * _each_set.h. What is computed here are the layers of codec/rate/context.py.
 */

#include "_layers.h"

/* `valid` latents, whose inputs are loaded; `count`: rounded up to two vectors. */
static TARGET void OF(network)(const Network *net, Work *work, int valid, int count)
{
    float *x = work->x, *a0 = work->a0, *a1 = work->a1, *g0 = work->g0, *g1 = work->g1;
    float *mean = work->out, *index = work->out + CHUNK, *q = work->q;
    OF(layer)(work->zero, net->first, net->rows, INPUTS, x, a0, count);
    for (int r = 0; r < net->width; r++)
        for (int n = 0; n < count; n++) {
            float sum = a0[r * CHUNK + n];
            sum = sum < 0 ? 0 : sum;
            a0[r * CHUNK + n] = sum > LARGEST ? LARGEST : sum;
        }
    OF(layer)(net->hidden_bias, net->hidden, net->rows, net->width, a0, a1, count);
    for (int r = 0; r < net->width; r++)
        for (int n = 0; n < count; n++) {
            float sum = a1[r * CHUNK + n];
            sum = sum < 0 ? 0 : sum;
            a1[r * CHUNK + n] = sum > LARGEST ? LARGEST : sum;
        }
    for (int n = 0; n < count; n += 2 * LANES)
        OF(products)(2, net->level, net->out, 2, a1 + n, net->width, work->out + n, CHUNK);
    /* Bits of a Laplace distribution and their slopes (codec/rate/laplace.py). */
    float *gm = work->go, *gs = work->go + CHUNK;
    float *bits = work->sums, *by_mean = bits + CHUNK, *by_level = by_mean + CHUNK;
    for (int n = 0; n < count; n++) {
        float wide = 8 * index[n];
        float held = wide < LEAST ? LEAST : wide;
        held = held > MOST ? MOST : held;
        float inverse = power_of_two((held + UNIT) * -0.2f);
        float d = q[n] - mean[n], u = d > 0 ? d : -d, a = u - 0.5f;
        float e1 = power_of_two((a > 0 ? -a : a) * inverse * LOG2_E);
        float e2 = power_of_two((u + 0.5f) * inverse * -LOG2_E);
        float p = a >= 0 ? 0.5f * (e1 - e2) : 1 - 0.5f * (e1 + e2);
        p = p < FLOOR ? FLOOR : p;
        float inside = n < valid ? 1 : 0;
        float slope = inside * net->scale * (0.5f * LOG2_E) * inverse / p;
        float by_q = slope * (e1 - e2);
        by_q = d < 0 ? -by_q : d > 0 ? by_q : 0;
        float by_scale = slope * ((u + 0.5f) * e2 - a * e1) * (8 * NATS);
        by_scale = (held - wide) * by_scale > 0 ? 0 : by_scale;
        bits[n] -= inside * logarithm_of_two(p);
        by_mean[n] -= by_q;
        by_level[n] += by_scale;
        gm[n] = -by_q;
        gs[n] = by_scale;
    }
    for (int r = 0; r < net->width; r++) {
        float to_mean = net->out[2 * r], to_scale = net->out[2 * r + 1];
        float *g = g1 + r * CHUNK, *act = a1 + r * CHUNK;
        for (int n = 0; n < count; n++)
            g[n] = act[n] > 0 ? to_mean * gm[n] + to_scale * gs[n] : 0;
    }
    OF(layer)(work->zero, net->hidden_back, net->rows, net->width, g1, g0, count);
    for (int r = 0; r < net->width; r++)
        for (int n = 0; n < count; n++)
            g0[r * CHUNK + n] = a0[r * CHUNK + n] > 0 ? g0[r * CHUNK + n] : 0;
    const float *slopes[MAX_WIDTH], *seen[MAX_WIDTH];
    rows_of(g0, net->width, slopes);
    rows_of(x, INPUTS, seen);
    OF(outers)(net->width, INPUTS, slopes, seen, work->by_first, count);
    rows_of(g1, net->width, slopes);
    rows_of(a0, net->width, seen);
    OF(outers)(net->width, net->width, slopes, seen, work->by_hidden, count);
    rows_of(work->go, 2, slopes);
    rows_of(a1, net->width, seen);
    OF(outers)(2, net->width, slopes, seen, work->by_out, count);
    for (int r = 0; r < net->width; r++) {
        OF(Vector) *total = (OF(Vector) *)(work->by_bias + r * LANES), sum = *total;
        for (int n = 0; n < count; n += LANES)
            sum += *(OF(Vector) *)(g1 + r * CHUNK + n);
        *total = sum;
    }
    /* Last, into the memory of the inputs. */
    OF(layer)(work->zero, net->first_back, INPUT_ROWS, net->width, g0, x, count);
}

/* The `valid` latents of a row from `column` on, a multiple of CHUNK. */
static TARGET void OF(evaluate)(const Job *job, const Network *net, Work *work, const Plane *own,
                                const Twice *parents, int64_t row, int64_t column, int valid)
{
    int count = (valid + 2 * LANES - 1) / (2 * LANES) * 2 * LANES;
    const float *masks = job->masks + row % job->side * MASKS * job->side;
    int64_t left = column % job->side;
    /* Blocks end where vectors end: their sides are multiples of LANES. */
    for (int i = 0; i < OWN; i++) {
        const float *from = plane_at(own, own->values, row + WINDOW[i][0], column + WINDOW[i][1]);
        for (int n = 0; n < count; n += LANES) {
            const float *mask = masks + i * job->side + (left + n) % job->side;
            *(OF(Vector) *)(work->x + i * CHUNK + n) =
                *(const OF(Loose) *)(from + n) * *(const OF(Loose) *)mask;
        }
    }
    for (int i = 0; i < PARENTS; i++) {
        float *to = work->x + (OWN + i) * CHUNK;
        if (parents)
            memcpy(to, parents->values + i / 3 * parents->stride + column + 2 * (i % 3),
                   (size_t)count * sizeof(float));
        else
            memset(to, 0, (size_t)count * sizeof(float));
    }
    for (int n = 0; n < count; n++)
        work->x[(OWN + PARENTS) * CHUNK + n] = 1;
    for (int i = 0; i < FLAGS - 1; i++)
        for (int n = 0; n < count; n += LANES)
            memcpy(work->x + (OWN + PARENTS + 1 + i) * CHUNK + n,
                   masks + (OWN + i) * job->side + (left + n) % job->side, LANES * sizeof(float));
    memset(work->q, 0, sizeof work->q);
    memcpy(work->q, job->latents + job->own.start + row * job->own.stride + column,
           (size_t)valid * sizeof(float));
    OF(network)(net, work, valid, count);
    /* What was `x` are its slopes now. */
    for (int i = 0; i < OWN; i++) {
        float *to = plane_at(own, own->slopes, row + WINDOW[i][0], column + WINDOW[i][1]);
        for (int n = 0; n < count; n += LANES) {
            const float *mask = masks + i * job->side + (left + n) % job->side;
            *(OF(Loose) *)(to + n) +=
                *(OF(Vector) *)(work->x + i * CHUNK + n) * *(const OF(Loose) *)mask;
        }
    }
    for (int i = 0; parents && i < PARENTS; i++) {
        float *to = parents->slopes + i / 3 * parents->stride + column + 2 * (i % 3);
        for (int n = 0; n < count; n += LANES)
            *(OF(Loose) *)(to + n) += *(OF(Vector) *)(work->x + (OWN + i) * CHUNK + n);
    }
    float *to = plane_at(own, own->slopes, row, column);
    for (int n = 0; n < valid; n++)
        to[n] -= work->go[n];
}

/* Add up lanes, and add what is found to `out`, as described at rate_rows. */
static TARGET void OF(finish)(const Network *net, const Work *work, double *out)
{
    int width = net->width;
    OF(collect)(width, INPUTS, work->by_first, out);
    out += width * INPUTS;
    OF(collect)(width, width, work->by_hidden, out);
    out += width * width;
    for (int r = 0; r < width; r++)
        for (int n = 0; n < LANES; n++)
            out[r] += work->by_bias[r * LANES + n];
    out += width;
    OF(collect)(2, width, work->by_out, out);
    out += 2 * width;
    for (int n = 0; n < CHUNK; n++) {
        out[0] += work->sums[CHUNK + n];
        out[1] += work->sums[2 * CHUNK + n];
        out[2] += work->sums[n];
    }
}
