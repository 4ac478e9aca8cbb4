import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reviewActivation } from '../../src/agent/close-review.ts';
import { type LiveStream, LiveStreams } from '../../src/agent/live-streams.ts';
import { Turns } from '../../src/agent/turns.ts';
import type { Decider, Decision, PolicyInputBase } from '../../src/policy/index.ts';
import { systemClock } from '../../src/runtime/index.ts';

const ADDRESS = '10.1.2.3';
const candidate = {} as Decider;

/** What a candidate would close of so many live streams, of which some are answered so. */
const review = async (
  live: number,
  denied: number,
  options: { readonly percent?: number; readonly answer?: Partial<Decision> } = {},
): ReturnType<typeof reviewActivation> => {
  const streams = new LiveStreams();
  for (let index = 0; index < live; index += 1) {
    const base = { connection: { name: index < denied ? 'closed' : 'kept' } } as PolicyInputBase;
    streams.add({ base, addresses: [ADDRESS] } as unknown as LiveStream);
  }
  const allowed = { allow: true, allowed_addresses: [ADDRESS] };
  const reviewed = await reviewActivation(
    {
      streams,
      turns: new Turns(systemClock),
      maxClosePercent: options.percent ?? 20,
      decide: (decider, base) => {
        assert.equal(decider, candidate);
        const answer = base.connection.name === 'closed' ? { allow: false, ...options.answer } : allowed;
        return Promise.resolve(answer as unknown as Decision);
      },
    },
    candidate,
  );
  for (const { base, wouldClose } of streams) assert.equal(wouldClose, base.connection.name === 'closed');
  return reviewed;
};

test('more than 10 streams and more than 20 percent of them are held', async () => {
  for (const [live, denied, isHeld] of [
    [0, 0, false],
    [10, 10, false],
    [11, 11, true],
    [54, 11, true],
    [55, 11, false],
    [1_000, 200, false],
    [1_000, 201, true],
  ] as const) {
    assert.deepEqual(
      await review(live, denied),
      { live, wouldClose: denied, isHeld },
      `${denied} of ${live}`,
    );
  }
});

test('the share is configurable: 0 holds beyond 10 streams, 100 holds nothing', async () => {
  assert.equal((await review(1_000, 11, { percent: 0 })).isHeld, true);
  assert.equal((await review(1_000, 10, { percent: 0 })).isHeld, false);
  assert.equal((await review(1_000, 1_000, { percent: 100 })).isHeld, false);
});

test('an address that is no longer allowed and an engine that fails count as closed', async () => {
  const moved = { allow: true, allowed_addresses: ['10.9.9.9'] };
  assert.equal((await review(20, 20, { answer: moved })).wouldClose, 20);
  const failed: Partial<Decision> = { allow: false, decided_by: 'engine', reason: 'policy_timeout' };
  assert.equal((await review(20, 20, { answer: failed })).wouldClose, 20);
});
