import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Enforcer, KEY_IDS, MemoryWorld } from './memory-world.ts';

const RUNS = 120;
/** Steps of a run in which nothing is revoked are some sixty. */
const MOST_STEPS = 70;
/** Loop turns that bytes of memory need from one end to the other and back. */
const TURNS = 8;

const turns = async (count: number = TURNS): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** How far things had come when the key was revoked. */
interface Seen {
  live: number;
  inFlight: number;
}

/** Plays one order of everything, with the revocation before step `revokeAt` or, at the latest, at the end. */
const play = async (
  scheduler: fc.Scheduler,
  enforcer: Enforcer,
  keyId: string,
  revokeAt: number,
  seen: Seen,
): Promise<void> => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-races-'));
  const world = new MemoryWorld(scheduler, enforcer, directory);
  try {
    world.start();
    const revoke = async (): Promise<void> => {
      if (world.streams.live > 0) seen.live += 1;
      if (scheduler.count() > 0) seen.inFlight += 1;
      world.revoke(keyId);
      await turns();
    };
    /** Takes one step after the other as long as there are any, at most so many. */
    const go = async (most: number): Promise<void> => {
      for (let step = 0; step < most; step += 1) {
        if (scheduler.count() === 0) await turns(2 * TURNS);
        if (scheduler.count() === 0) return;
        await scheduler.waitNext(1);
        await turns();
      }
    };
    await turns();
    await go(revokeAt);
    await revoke();
    await go(Number.POSITIVE_INFINITY);
    assert.deepEqual(world.survivors(keyId), []);
  } finally {
    await world.close();
    rmSync(directory, { recursive: true, force: true });
  }
};

for (const enforcer of ['relay', 'agent', 'gateway', 'all'] as const) {
  test(`whatever a revocation falls into, nothing of the key lives on: heard by ${enforcer}`, async (t) => {
    const seen: Seen = { live: 0, inFlight: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.constantFrom('sender' as const, 'listener' as const),
        fc.nat(MOST_STEPS),
        (scheduler, which, revokeAt) => play(scheduler, enforcer, KEY_IDS[which], revokeAt, seen),
      ),
      { numRuns: RUNS },
    );
    t.diagnostic(
      `revoked with live streams ${seen.live}, with something in flight ${seen.inFlight} of ${RUNS}`,
    );
    assert.ok(seen.live > 0 && seen.inFlight > seen.live, 'the model comes as far as streams');
  });
}
