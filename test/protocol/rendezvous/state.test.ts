import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  advance,
  OFFERED,
  type RendezvousEvent,
  type RendezvousState,
} from '../../../src/protocol/rendezvous/state.ts';

const run = (...events: RendezvousEvent[]): RendezvousState => events.reduce(advance, OFFERED);
const arrived = (side: 'agent' | 'gateway'): RendezvousEvent => ({ kind: 'arrived', side });
const left = (side: 'agent' | 'gateway'): RendezvousEvent => ({ kind: 'left', side });
const cut: RendezvousEvent = { kind: 'cut', reason: 'key_revoked' };
const deadline: RendezvousEvent = { kind: 'deadline' };

test('offered, one side here, joined, closed', () => {
  assert.deepEqual(run(arrived('agent')), { kind: 'half', here: 'agent' });
  assert.deepEqual(run(arrived('agent'), arrived('gateway')), { kind: 'joined' });
  assert.deepEqual(run(arrived('gateway'), arrived('agent')), { kind: 'joined' });
  assert.deepEqual(run(arrived('agent'), arrived('gateway'), left('agent')), {
    kind: 'closed',
    reason: 'agent_lost',
  });
  assert.deepEqual(run(arrived('agent'), arrived('gateway'), left('gateway')), {
    kind: 'closed',
    reason: 'gateway_lost',
  });
});

test('the same side twice is a replay and ends the rendezvous', () => {
  assert.deepEqual(run(arrived('agent'), arrived('agent')), { kind: 'closed', reason: 'protocol_error' });
  const third = run(arrived('agent'), arrived('gateway'), arrived('agent'));
  assert.deepEqual(third, { kind: 'closed', reason: 'protocol_error' });
});

test('the deadline ends what is not joined, and nothing else', () => {
  assert.deepEqual(run(deadline), { kind: 'closed', reason: 'link_failed' });
  assert.deepEqual(run(arrived('agent'), deadline), { kind: 'closed', reason: 'link_failed' });
  assert.deepEqual(run(arrived('agent'), arrived('gateway'), deadline), { kind: 'joined' });
});

test('a side that cannot come fails the rendezvous', () => {
  assert.deepEqual(run(left('agent')), { kind: 'closed', reason: 'link_failed' });
  const refused: RendezvousEvent = { kind: 'left', side: 'agent', reason: 'overloaded' };
  assert.deepEqual(run(refused), { kind: 'closed', reason: 'overloaded' });
  assert.deepEqual(run(arrived('gateway'), refused), { kind: 'closed', reason: 'overloaded' });
  assert.deepEqual(run(arrived('gateway'), arrived('agent'), refused), {
    kind: 'closed',
    reason: 'agent_lost',
  });
  assert.deepEqual(run(arrived('agent'), left('agent')), { kind: 'closed', reason: 'link_failed' });
});

test('a cut ends every state with its reason, and nothing leaves closed', () => {
  const event: fc.Arbitrary<RendezvousEvent> = fc.oneof(
    fc.constantFrom<RendezvousEvent>(arrived('agent'), arrived('gateway'), deadline),
    fc.constantFrom<RendezvousEvent>(left('agent'), left('gateway')),
  );
  fc.assert(
    fc.property(fc.array(event), fc.array(event), (before, after) => {
      const state = run(...before);
      const ended = advance(state, cut);
      if (state.kind === 'closed') assert.deepEqual(ended, state);
      else assert.deepEqual(ended, { kind: 'closed', reason: 'key_revoked' });
      assert.deepEqual(after.reduce(advance, ended), ended);
    }),
  );
});
