// Rollout of a batch of quadrotors under a tanh MLP, and the gradient of the mean loss with respect to its weights.
// The functions observe, observe_vjp, advance and advance_vjp and the sizes in capitals are generated before this text.
// Two vectors of environments at a time; forward over the whole window, then backward, nothing allocated per call but once.
#include <vector>
#include <cstdlib>

enum { NV = 2, GROUP = NV * LANES, CHUNK = 8, SAMPLES = CHUNK * GROUP };
typedef vf group[NV];

template <int K, int J, int JB, bool TANH>
static void dense_block(const float* wt, const float* bias, const group* x, group* y, int j) {
  group acc[JB];
  for (int i = 0; i < JB; ++i) for (int v = 0; v < NV; ++v) acc[i][v] = splat(bias ? bias[j + i] : 0.0f);
  for (int k = 0; k < K; ++k) {
    const vf x0 = x[k][0], x1 = x[k][1];
    const float* w = wt + k * J + j;
#pragma GCC unroll 8
    for (int i = 0; i < JB; ++i) { const vf s = splat(w[i]); acc[i][0] += s * x0; acc[i][1] += s * x1; }
  }
  for (int i = 0; i < JB; ++i) for (int v = 0; v < NV; ++v) y[j + i][v] = TANH ? vtanh(acc[i][v]) : acc[i][v];
}

template <int K, int J, bool TANH>
static void dense(const float* wt, const float* bias, const group* x, group* y) {
  // y[j] = Σ_k wt[k][j] x[k] (+ bias[j]); blocks of eight outputs stay in registers, then what is left over.
  for (int j = 0; j + 8 <= J; j += 8) dense_block<K, J, 8, TANH>(wt, bias, x, y, j);
  if constexpr (J % 8 != 0) dense_block<K, J, J % 8, TANH>(wt, bias, x, y, J - J % 8);
}

// Inputs of a layer in whole vectors; what is beyond them is zero.
constexpr int padded(int k) { return (k + LANES - 1) / LANES * LANES; }

template <int K, int J>
static void weight_gradient(float* dw, float* db, const float* xt, const float* dy, int steps) {
  // dw[j][k] += Σ_s dy[j][s] x[s][k]; xt is (steps * GROUP, K), dy is (steps, J, GROUP); K is padded, J a multiple of 4.
  static_assert(K % LANES == 0 && J % 4 == 0, "sizes of layers");
  constexpr int KV = K / LANES, JB = 4;
  for (int j = 0; j < J; j += JB) {
    vf acc[JB][KV];
    float bias[JB] = {0};
    for (int i = 0; i < JB; ++i) for (int k = 0; k < KV; ++k) acc[i][k] = load(dw + (j + i) * K + k * LANES);
    for (int t = 0; t < steps; ++t) {
      const float* d = dy + (t * J + j) * GROUP;
      const float* x = xt + (long)t * GROUP * K;
      for (int s = 0; s < GROUP; ++s, x += K) {
        vf xv[KV];
        for (int k = 0; k < KV; ++k) xv[k] = load(x + k * LANES);
#pragma GCC unroll 4
        for (int i = 0; i < JB; ++i) { const vf g = splat(d[i * GROUP + s]); for (int k = 0; k < KV; ++k) acc[i][k] += g * xv[k]; }
      }
      for (int i = 0; i < JB; ++i) for (int s = 0; s < GROUP; ++s) bias[i] += d[i * GROUP + s];
    }
    for (int i = 0; i < JB; ++i) { for (int k = 0; k < KV; ++k) store(dw + (j + i) * K + k * LANES, acc[i][k]); db[j + i] += bias[i]; }
  }
}

template <int K>
static void transpose(const group* x, float* xt) {  // (K, GROUP) → (GROUP, padded K)
  const float* p = (const float*)x;
  for (int s0 = 0; s0 < GROUP; s0 += 16)
    for (int k = 0; k < K; ++k) for (int s = s0; s < s0 + 16; ++s) xt[s * padded(K) + k] = p[k * GROUP + s];
}

struct Tape { group carry[N_CARRY], obs[N_OBS], h1[N_H1], h2[N_H2], action[N_ACT]; };
struct Chunk {
  float obs[SAMPLES * padded(N_OBS)], h1[SAMPLES * N_H1], h2[SAMPLES * N_H2];
  group d1[CHUNK][N_H1], d2[CHUNK][N_H2], d3[CHUNK][N_ACT];
};

static void pick(vf* out, const group* in, int rows, int v) { for (int r = 0; r < rows; ++r) out[r] = in[r][v]; }
static void put(group* out, const vf* in, int rows, int v) { for (int r = 0; r < rows; ++r) out[r][v] = in[r]; }
static void read_rows(vf* out, const float* p, int rows, long n, long at) { for (int r = 0; r < rows; ++r) out[r] = load(p + r * n + at); }

static void next_carry(group* next, const Tape& t, const vf* memory, const vf* state, const vf* target, int v) {
  for (int r = 0; r < 17; ++r) next[C_STATE + r][v] = state[r];
  for (int r = 0; r < 12; ++r) next[C_FILTER + r][v] = memory[r];
  for (int r = 0; r < 4; ++r) {
    next[C_ACTION1 + r][v] = t.action[r][v];
    next[C_ACTION2 + r][v] = t.carry[C_ACTION1 + r][v];
    next[C_ACTION3 + r][v] = t.carry[C_ACTION2 + r][v];
  }
  for (int r = 0; r < N_MEMORY - 12; ++r) next[C_LINVEL + r][v] = memory[12 + r];
  for (int r = 0; r < N_TARGET; ++r) next[C_TARGET + r][v] = target[r];
}

struct Net { const float *w1t, *b1, *w2t, *b2, *w3t, *b3, *w1, *w2, *w3; };
struct Grad { float *w1, *b1, *w2, *b2, *w3, *b3; };

static double forward(Tape* tape, const Net& net, const float* vehicle, const float* noise, long n, long at, int horizon) {
  vf total = splat(0.0f);
  for (int t = 0; t < horizon; ++t) {
    Tape& now = tape[t];
    const float* step_noise = noise + (long)t * N_NOISE * n;
    vf memory[NV][N_MEMORY];
    for (int v = 0; v < NV; ++v) {
      vf c[N_CARRY], z[N_NOISE], obs[N_OBS];
      pick(c, now.carry, N_CARRY, v);
      read_rows(z, step_noise, N_NOISE, n, at + v * LANES);
      observe(c, z, obs, memory[v]);
      put(now.obs, obs, N_OBS, v);
    }
    dense<N_OBS, N_H1, true>(net.w1t, net.b1, now.obs, now.h1);
    dense<N_H1, N_H2, true>(net.w2t, net.b2, now.h1, now.h2);
    dense<N_H2, N_ACT, true>(net.w3t, net.b3, now.h2, now.action);
    for (int v = 0; v < NV; ++v) {
      vf c[N_CARRY], z[N_NOISE], a[N_ACT], p[N_VEHICLE], state[17], target[N_TARGET], cost[1];
      pick(c, now.carry, N_CARRY, v);
      pick(a, now.action, N_ACT, v);
      read_rows(z, step_noise, N_NOISE, n, at + v * LANES);
      read_rows(p, vehicle, N_VEHICLE, n, at + v * LANES);
      advance(c, a, p, z, state, target, cost);
      total += cost[0];
      next_carry(tape[t + 1].carry, now, memory[v], state, target, v);
    }
  }
  double sum = 0;
  for (int i = 0; i < LANES; ++i) sum += total[i];
  return sum;
}

// Adjoints of the differentiated part of the carry: state 17, filter 12, action1..3.
struct Adjoint { group state[17], filter[12], action1[4], action2[4], action3[4]; };

static void backward_step(Adjoint& bar, const Tape& t, Chunk& chunk, int slot, const Net& net, const float* vehicle,
                          const float* noise, long n, long at, float scale, float decay) {
  group da[N_ACT];
  for (int v = 0; v < NV; ++v) {
    vf c[N_CARRY], z[N_NOISE], a[N_ACT], p[N_VEHICLE], state_bar[17], cost_bar[1] = {splat(scale)}, out[17 + 12 + N_ACT];
    pick(c, t.carry, N_CARRY, v); pick(a, t.action, N_ACT, v); pick(state_bar, bar.state, 17, v);
    read_rows(z, noise, N_NOISE, n, at + v * LANES); read_rows(p, vehicle, N_VEHICLE, n, at + v * LANES);
    advance_vjp(c, a, p, z, state_bar, cost_bar, out);
    for (int r = 0; r < N_ACT; ++r) {
      da[r][v] = out[29 + r] + bar.action1[r][v];
      bar.action1[r][v] = out[17 + r] + bar.action2[r][v];
      bar.action2[r][v] = out[21 + r] + bar.action3[r][v];
      bar.action3[r][v] = out[25 + r];
    }
    put(bar.state, out, 17, v);
  }
  group *d3 = chunk.d3[slot], *d2 = chunk.d2[slot], *d1 = chunk.d1[slot], dobs[N_OBS];
  for (int j = 0; j < N_ACT; ++j) for (int v = 0; v < NV; ++v) d3[j][v] = da[j][v] * (1.0f - t.action[j][v] * t.action[j][v]);
  dense<N_ACT, N_H2, false>(net.w3, nullptr, d3, d2);
  for (int j = 0; j < N_H2; ++j) for (int v = 0; v < NV; ++v) d2[j][v] *= 1.0f - t.h2[j][v] * t.h2[j][v];
  dense<N_H2, N_H1, false>(net.w2, nullptr, d2, d1);
  for (int j = 0; j < N_H1; ++j) for (int v = 0; v < NV; ++v) d1[j][v] *= 1.0f - t.h1[j][v] * t.h1[j][v];
  dense<N_H1, N_OBS, false>(net.w1, nullptr, d1, dobs);
  transpose<N_OBS>(t.obs, chunk.obs + slot * GROUP * padded(N_OBS));
  transpose<N_H1>(t.h1, chunk.h1 + slot * GROUP * N_H1);
  transpose<N_H2>(t.h2, chunk.h2 + slot * GROUP * N_H2);
  for (int v = 0; v < NV; ++v) {
    vf c[N_CARRY], z[N_NOISE], obs_bar[N_OBS], filter_bar[12], out[17 + 12 + 4];
    pick(c, t.carry, N_CARRY, v); pick(obs_bar, dobs, N_OBS, v); pick(filter_bar, bar.filter, 12, v);
    read_rows(z, noise, N_NOISE, n, at + v * LANES);
    observe_vjp(c, z, obs_bar, filter_bar, out);
    for (int r = 0; r < 17; ++r) bar.state[r][v] = decay * (bar.state[r][v] + out[r]);
    for (int r = 0; r < 12; ++r) bar.filter[r][v] = out[17 + r];
    for (int r = 0; r < 4; ++r) bar.action1[r][v] += out[29 + r];
  }
}

static void flush(const Chunk& chunk, int steps, const Grad& g) {
  weight_gradient<padded(N_OBS), N_H1>(g.w1, g.b1, chunk.obs, (const float*)chunk.d1, steps);
  weight_gradient<N_H1, N_H2>(g.w2, g.b2, chunk.h1, (const float*)chunk.d2, steps);
  weight_gradient<N_H2, N_ACT>(g.w3, g.b3, chunk.h2, (const float*)chunk.d3, steps);
}

static std::vector<float> transposed(const float* w, int rows, int columns) {
  std::vector<float> out((size_t)rows * columns);
  for (int r = 0; r < rows; ++r) for (int c = 0; c < columns; ++c) out[(size_t)c * rows + r] = w[(size_t)r * columns + c];
  return out;
}

// carry (N_CARRY, n) is advanced by `horizon` steps in place; noise (horizon, N_NOISE, n); weights and gradient are
// W1, b1, W2, b2, W3, b3 one after the other, row-major; n must be a multiple of GROUP. Returns the mean loss.
extern "C" double loss_and_gradient(long n, long horizon, float decay, float* carry, const float* vehicle, const float* noise,
                                    const float* weights, float* gradient) {
  const float *w1 = weights, *b1 = w1 + N_H1 * N_OBS, *w2 = b1 + N_H1, *b2 = w2 + N_H2 * N_H1, *w3 = b2 + N_H2, *b3 = w3 + N_ACT * N_H2;
  const auto w1t = transposed(w1, N_H1, N_OBS), w2t = transposed(w2, N_H2, N_H1), w3t = transposed(w3, N_ACT, N_H2);
  const Net net = {w1t.data(), b1, w2t.data(), b2, w3t.data(), b3, w1, w2, w3};
  float* g = gradient;
  const long count = b3 + N_ACT - weights;
  memset(g, 0, sizeof(float) * count);
  std::vector<float> first((size_t)N_H1 * padded(N_OBS));
  const Grad grad = {first.data(), g + (b1 - weights), g + (w2 - weights), g + (b2 - weights), g + (w3 - weights), g + (b3 - weights)};
  Tape* tape = (Tape*)aligned_alloc(64, sizeof(Tape) * (horizon + 1));
  Chunk* chunk = (Chunk*)aligned_alloc(64, sizeof(Chunk));
  memset((void*)chunk, 0, sizeof(Chunk));
  const float scale = 1.0f / (float)(n * horizon);
  double total = 0;
  for (long at = 0; at < n; at += GROUP) {
    for (int r = 0; r < N_CARRY; ++r) for (int v = 0; v < NV; ++v) tape[0].carry[r][v] = load(carry + r * n + at + v * LANES);
    total += forward(tape, net, vehicle, noise, n, at, (int)horizon);
    Adjoint bar;
    memset((void*)&bar, 0, sizeof bar);
    int slot = 0;
    for (int t = (int)horizon - 1; t >= 0; --t) {
      backward_step(bar, tape[t], *chunk, slot, net, vehicle, noise + (long)t * N_NOISE * n, n, at, scale, decay);
      if (++slot == CHUNK || t == 0) { flush(*chunk, slot, grad); slot = 0; }
    }
    for (int r = 0; r < N_CARRY; ++r) for (int v = 0; v < NV; ++v) store(carry + r * n + at + v * LANES, tape[horizon].carry[r][v]);
  }
  for (int j = 0; j < N_H1; ++j) memcpy(g + j * N_OBS, first.data() + j * padded(N_OBS), sizeof(float) * N_OBS);
  free(tape);
  free(chunk);
  return total * scale;
}

// Near-normal numbers, mean 0 and variance 1: the sum of four 16-bit uniforms (Irwin-Hall); state is 2 * LANES words, non-zero.
extern "C" void fill_noise(uint32_t* state, float* out, long count) {
  typedef uint32_t vu __attribute__((vector_size(4 * LANES), aligned(4)));
  vu a = *(const vu*)state, b = *(const vu*)(state + LANES);
  for (long i = 0; i < count; i += LANES) {
    a ^= a << 13; a ^= a >> 17; a ^= a << 5;
    b ^= b << 13; b ^= b >> 17; b ^= b << 5;
    const vu sum = (a >> 16) + (a & 0xffffu) + (b >> 16) + (b & 0xffffu);
    const vf z = (__builtin_convertvector((vi)sum, vf) - 131070.0f) * (1.7320508f / 65536.0f);
    if (i + LANES <= count) store(out + i, z); else memcpy(out + i, &z, sizeof(float) * (size_t)(count - i));
  }
  *(vu*)state = a;
  *(vu*)(state + LANES) = b;
}
