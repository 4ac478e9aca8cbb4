import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Acknowledgement, Revocation } from '../../src/control/index.ts';
import type { ControlChannel } from '../../src/protocol/index.ts';
import { RETELL_AFTER_MS, RevocationEnforcement } from '../../src/relay/enforcement.ts';
import type { LinkBook } from '../../src/relay/link-book.ts';
import { Login } from '../../src/relay/login.ts';
import { LoginBook } from '../../src/relay/login-book.ts';
import { silentLogger } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

type Ask = (again: boolean) => Promise<unknown>;

const revocation = (id: string): Revocation => ({
  revocation_id: id,
  key_id: `k_${id}`,
  agent: null,
  instance: null,
  connection_id: null,
  kind: 'key_revoked',
  reason: '',
});

/** An enforcement whose agents answer as told; everything but the wire and the links is real. */
const setUp = (settled?: Promise<undefined>) => {
  const clock = new ManualClock();
  const acknowledged: Acknowledgement[] = [];
  const logins = new LoginBook({ clock, onExpired: () => undefined, onForgotten: () => undefined });
  const enforcement = new RevocationEnforcement({
    node: 'node-1',
    namespace: 'test',
    links: { cutWhere: () => 2, settled: () => settled } as unknown as LinkBook,
    logins,
    feed: { acknowledge: (_id, acknowledgement) => acknowledged.push(acknowledgement) },
    audit: { note: () => undefined },
    clock,
    logger: silentLogger,
    observe: () => undefined,
  });
  const agent = (name: string, instance: string, ask: Ask): Login => {
    const facts = { id: instance, role: 'agent' as const, name, instance, instanceSecret: 's', build: 't' };
    const channel = {
      request: (_t: string, body: { again?: boolean }) => ask(body.again === true),
      close: () => undefined,
    } as unknown as ControlChannel;
    const rest = { address: undefined, openedMs: 0, bundleSha256: undefined };
    const login = new Login({ ...facts, ...rest }, channel, clock);
    logins.add(login);
    return login;
  };
  return { clock, acknowledged, logins, enforcement, agent };
};

const ack = (streams: number) => ({ t: 'ack', body: { streams } });
const silence = (): Promise<never> => Promise.reject(new Error('planned silence'));
const pendingOf = (list: readonly Acknowledgement[]): readonly string[] | undefined =>
  list.at(-1)?.pendingAgents?.map(({ name }) => name);

test('an agent that answers late is told again until it does, and only it is pending', async () => {
  const { clock, acknowledged, enforcement, agent } = setUp();
  let asked = 0;
  agent('quick', 'i1', async () => ack(3));
  agent('frozen', 'i2', async (again) => {
    asked += 1;
    return again && asked === 3 ? ack(4) : silence();
  });
  enforcement.enforce(revocation('r1'));
  assert.deepEqual(pendingOf(acknowledged), ['quick', 'frozen'], 'in the tick of the revocation');
  await nextTurn();
  assert.deepEqual(pendingOf(acknowledged), ['frozen']);
  assert.deepEqual([acknowledged.at(-1)?.links, acknowledged.at(-1)?.streams], [2, 3]);
  clock.advance(RETELL_AFTER_MS);
  await nextTurn();
  assert.deepEqual([asked, pendingOf(acknowledged)], [3, []]);
  assert.equal(acknowledged.at(-1)?.streams, 7);
  clock.advance(10 * RETELL_AFTER_MS);
  await nextTurn();
  assert.equal(asked, 3, 'told again after it had confirmed');
});

test('another process of the same name does not answer for one that is silent, unless that one is gone', async () => {
  const { acknowledged, logins, enforcement, agent } = setUp();
  const silent = agent('agent-1', 'i1', silence);
  enforcement.enforce(revocation('r1'));
  await nextTurn();
  enforcement.catchUp(
    agent('agent-1', 'i2', async () => ack(0)),
    [revocation('r1')],
  );
  await nextTurn();
  assert.deepEqual(pendingOf(acknowledged), ['agent-1']);
  logins.forget(silent, 'lost');
  enforcement.catchUp(
    agent('agent-1', 'i3', async () => ack(0)),
    [revocation('r1')],
  );
  await nextTurn();
  assert.deepEqual(pendingOf(acknowledged), []);
});

test('nothing is acknowledged before a pipe worker has confirmed the cut', async () => {
  let confirm: (value: undefined) => void = () => undefined;
  const cut = new Promise<undefined>((resolve) => (confirm = resolve));
  const { acknowledged, enforcement, agent, clock } = setUp(cut);
  agent('quick', 'i1', async () => ack(3));
  enforcement.enforce(revocation('r1'));
  await nextTurn();
  assert.equal(acknowledged.length, 0);
  clock.advance(25);
  confirm(undefined);
  await nextTurn();
  assert.deepEqual(acknowledged.at(-1), { links: 2, streams: 3, ms: 25, pendingAgents: [] });
});
