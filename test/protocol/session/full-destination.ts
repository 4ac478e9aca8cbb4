import assert from 'node:assert/strict';
import { FRAME } from '../../../src/protocol/session/constants.ts';
import type { TestContext } from 'node:test';
import { againstRaw, pattern, rawData, rawOpen, tcpPair, turns } from './support.ts';

const CHUNK_BYTES = 32 * 1024;
/** Turns without new credit after which the destination counts as full. */
const STILL_TURNS = 60;

/** An agent whose stream 1 leads to a socket that reads nothing: its kernel and then the agent's socket are full. */
export const fullDestination = async (t: TestContext) => {
  const destination = await tcpPair(t);
  const { raw } = againstRaw(t, 'agent', {
    onOpen: (incoming) => incoming.accept(destination.near, { decision_id: 'd' }, () => undefined),
  });
  raw.send(rawOpen(1));
  let limit = (await raw.next(FRAME.ACCEPT)).value;
  let sent = 0;
  const chunk = pattern(CHUNK_BYTES);
  for (let still = 0; still < STILL_TURNS; still += 1) {
    while (sent < limit) {
      const payload = chunk.subarray(0, Math.min(chunk.length, limit - sent));
      raw.send(rawData(1, sent, payload));
      sent += payload.length;
      still = 0;
    }
    await turns(1);
    for (const credit of raw.frames.splice(0)) limit = Math.max(limit, credit.value);
  }
  assert.ok(destination.near.writableLength > 0);
  return { destination, raw, sent };
};
