/* ---------------------------------------------------------------------------------------------------------------------
   The agent: RL2. The hidden state of a recurrent policy, which is told the last action and reward, is all it knows */

static inline void nacre_agent_begin(nacre_session *s, nacre_key key, const float *task)
{
    (void)s, (void)key, (void)task;
}

static inline void nacre_agent_act(nacre_session *s, const float *obs, const nacre_key *key, float *action)
{
    nacre_memory *memory = &s->state.memory;
    float *x = s->x;
    memcpy(x, obs, NACRE_OBS_DIM * sizeof(float));
    memcpy(x + NACRE_OBS_DIM, memory->before, sizeof memory->before);
    nacre_cell_step(s->weights, &memory->cell, x, s->seen, s->kept);
    memcpy(x, memory->cell.hidden, sizeof memory->cell.hidden);
    nacre_policy_act(s, key, action);
}

static inline void nacre_agent_observe(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    float *before = s->state.memory.before;
    (void)obs, (void)next_obs;
    memcpy(before, action, NACRE_ACTION_DIM * sizeof(float));
    before[NACRE_ACTION_DIM] = reward;
    before[NACRE_ACTION_DIM + 1] = 0.0f;
}

static inline void nacre_agent_end_episode(nacre_session *s, nacre_key key)
{
    (void)key;
    s->state.memory.num_episodes++;
    s->state.memory.before[NACRE_ACTION_DIM + 1] = 1.0f;
}

