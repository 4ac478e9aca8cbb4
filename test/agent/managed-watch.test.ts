import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentLink } from '../../src/agent/agent-link.ts';
import { type ManagedWatch, watchManaged } from '../../src/agent/managed-watch.ts';
import { type ManagedChange, ManagedHost, ManagedSettings, parseManaged } from '../../src/policy/index.ts';
import { silentLogger } from '../../src/runtime/index.ts';
import { managedPlace } from '../support/managed-place.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { deny, makeHarness, openOne } from './harness.ts';

const SHA = 'cd'.repeat(32);

test('a change ends what it does not allow in its own tick, the evidence first', async (t) => {
  const harness = makeHarness();
  await openOne(harness, { id: 'stays' });
  await openOne(harness, { id: 'goes' });
  const { lines } = harness.trace;
  lines.length = 0;
  const host = await ManagedHost.open({
    location: managedPlace(t).location,
    clock: new ManualClock(),
    logger: silentLogger,
  });
  t.after(() => host.close());
  let change: ((of: ManagedChange) => void) | undefined;
  host.onChanged = (call) => {
    change = call;
    return () => undefined;
  };
  const link = (node: string): AgentLink =>
    ({ node, cut: (reason: string) => harness.trace.add(`cut ${node} ${reason}`) }) as unknown as AgentLink;
  const deps: ManagedWatch = {
    managed: host,
    audit: {
      note: (event) => {
        const id = event.subject.stream_id;
        const recheck = event.type === 'stream.decision' && event.data.recheck === true ? ' re-check' : '';
        harness.trace.add(`note ${event.type}${id === undefined ? '' : ` ${id}`}${recheck}`);
      },
    },
    logger: silentLogger,
    subject: { namespace: 'ns', agent: 'a1' },
    streams: harness.streams,
    links: () => [link('relay.test'), link('other.test')],
    denial: ({ id, base }) =>
      id === 'goes' ? deny(base, 1, { decided_by: 'managed', reason: 'managed_denied' }) : undefined,
    governLogins: () => harness.trace.add('logins'),
    onChange: () => harness.trace.add('decide again'),
  };
  watchManaged(deps);
  assert.deepEqual(lines, [], 'no settings, no news');

  const after = ManagedSettings.inForce(parseManaged('relays: [relay.test]', 'f'), SHA);
  change?.({ before: ManagedSettings.absent, after });
  // Nothing was awaited since the change.
  assert.deepEqual(lines.slice(0, 2), ['note managed.changed', 'note stream.decision goes re-check']);
  assert.deepEqual(
    [...harness.streams].map(({ id }) => id),
    ['stays'],
  );
  assert.deepEqual(lines.slice(-3), ['logins', 'cut other.test managed_denied', 'decide again']);
  const closed = harness.events.flatMap(({ type, subject, data }) =>
    type === 'stream.close' ? [[subject.stream_id, data.reason]] : [],
  );
  assert.deepEqual(closed, [['goes', 'managed_denied']]);
});
