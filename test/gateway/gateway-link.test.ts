import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_SILENT_MS, SILENT_MS, silentAfterMs } from '../../src/gateway/gateway-link.ts';
import { Liveness } from '../../src/protocol/session/liveness.ts';
import { ManualClock } from '../support/manual-clock.ts';

test('a link that was frozen and answers late is found silent in seconds when it freezes again', () => {
  const clock = new ManualClock();
  const sent: number[] = [];
  const liveness = new Liveness(clock, {
    sendPing: (opaque: number) => sent.push(opaque),
    dead: () => undefined,
    check: () => undefined,
    lastTakenMs: 0,
    congested: false,
  });
  liveness.ping();
  clock.advance(1);
  assert.ok(liveness.pong(sent.splice(0)[0] ?? 0));
  assert.equal(silentAfterMs(liveness.rttMs), SILENT_MS);
  for (let opens = 0; opens < 20; opens += 1) liveness.ping();
  clock.advance(9_000);
  for (const opaque of sent) liveness.pong(opaque);
  liveness.stop();
  assert.ok((liveness.rttMs ?? 0) > 4_000, 'its measured round trip is no measure of it');
  assert.equal(silentAfterMs(liveness.rttMs), MAX_SILENT_MS);
});
