import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GatewayLink } from '../../src/gateway/gateway-link.ts';
import { type LinkFailure, LinkPool, type Waiter } from '../../src/gateway/link-pool.ts';
import type { AttachedCredential, LinkOffer, LinkRefusal, LinkRequest } from '../../src/protocol/index.ts';
import { silentLogger } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

const credential = { cred: 'c1', key_id: 'k_1' } as AttachedCredential;

/** What the pool looks at of a link. */
class FakeLink {
  readonly id: string;
  readonly node: string;
  readonly instance: string;
  readonly openedMs: number;
  readonly session = { streamCount: 0 };
  readonly offer = { sender: { id: 'k_1' } };
  isOpenable = true;
  isRetiring = false;
  idle = 0;
  retiredWith: string | undefined;
  load = { rttMs: 1, waiting: 0, bytesIn: 0, bytesOut: 0 };

  constructor(id: string, node: string, instance: string, openedMs: number) {
    this.id = id;
    this.node = node;
    this.instance = instance;
    this.openedMs = openedMs;
  }

  stats() {
    return this.load;
  }

  idleMs(): number {
    return this.idle;
  }

  retire(reason: string): void {
    this.retiredWith = reason;
    this.isRetiring = true;
    this.isOpenable = false;
  }
}

interface Rig {
  readonly clock: ManualClock;
  readonly requests: { node: string; request: LinkRequest }[];
  readonly links: FakeLink[];
  refusal: LinkFailure | undefined;
  agents: string[];
  readonly pool: LinkPool;
}

const makeRig = (isEager = false): Rig => {
  const clock = new ManualClock();
  const rig: Rig = {
    clock,
    requests: [],
    links: [],
    refusal: undefined,
    agents: ['a1'],
    pool: new LinkPool({
      connection: 'db',
      isEager,
      spki: 'spki',
      clock,
      logger: silentLogger,
      order: (nodes) => [...nodes].sort(),
      mayOpen: () => true,
      request: (node, request): Promise<LinkOffer | LinkRefusal> => {
        rig.requests.push({ node, request });
        if (rig.refusal !== undefined) return Promise.resolve({ refused: true, ...rig.refusal });
        const instance = rig.agents.find((agent) => !request.exclude.includes(agent));
        if (instance === undefined)
          return Promise.resolve({ refused: true, code: 'no_agent', detail: 'none' });
        return Promise.resolve({ node, peer: { name: instance, instance } } as LinkOffer);
      },
      open: (node, offer) => {
        const link = new FakeLink(`l${rig.links.length}`, node, offer.peer.instance, clock.monotonicMs());
        rig.links.push(link);
        return Promise.resolve(link as unknown as GatewayLink);
      },
    }),
  };
  return rig;
};

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

const waiterFor = (): Waiter & { link: GatewayLink | undefined; failure: LinkFailure | undefined } => {
  const waiter = {
    link: undefined as GatewayLink | undefined,
    failure: undefined as LinkFailure | undefined,
    serve: (link: GatewayLink) => {
      waiter.link = link;
    },
    fail: (failure: LinkFailure) => {
      waiter.failure = failure;
    },
  };
  return waiter;
};

test('a link is made for the first application that wants one', async () => {
  const rig = makeRig();
  rig.pool.start();
  rig.pool.onAttached('n1', credential);
  await turns();
  assert.equal(rig.links.length, 0);
  const waiters = [waiterFor(), waiterFor()];
  for (const waiter of waiters) rig.pool.wait(waiter);
  await turns();
  assert.equal(rig.links.length, 1);
  for (const { link } of waiters) assert.equal(link?.id, 'l0');
});

test('an eager pool makes its link as soon as a node has the credential, and again when it is lost', async () => {
  const rig = makeRig(true);
  rig.pool.start();
  rig.pool.onAttached('n1', credential);
  await turns();
  assert.equal(rig.links.length, 1);
  const [link] = rig.links;
  assert.ok(link);
  link.isOpenable = false;
  rig.pool.onLinkEnd(link as unknown as GatewayLink);
  await turns();
  assert.equal(rig.links.length, 2);
});

test('a refusal fails what waits, at once, with its code; the next application tries again', async () => {
  const rig = makeRig();
  rig.refusal = { code: 'no_agent', detail: 'nobody publishes db' };
  rig.pool.onAttached('n1', credential);
  const first = waiterFor();
  rig.pool.wait(first);
  await turns();
  assert.equal(first.failure?.code, 'no_agent');
  // Within a moment the same answer is given without asking the relay again.
  const second = waiterFor();
  rig.pool.wait(second);
  assert.equal(second.failure?.code, 'no_agent');
  assert.equal(rig.requests.length, 1);
  rig.clock.advance(300);
  rig.refusal = undefined;
  const third = waiterFor();
  rig.pool.wait(third);
  await turns();
  assert.equal(third.link?.id, 'l0');
});

test('every node that has the credential is asked before what waits fails', async () => {
  const rig = makeRig();
  rig.refusal = { code: 'no_agent', detail: 'none' };
  rig.pool.onAttached('n1', credential);
  rig.pool.onAttached('n2', credential);
  rig.pool.wait(waiterFor());
  await turns();
  assert.deepEqual(
    rig.requests.map(({ node }) => node),
    ['n1', 'n2'],
  );
});

test('what waits without any login stays until it is told or forgotten', async () => {
  const rig = makeRig();
  const waiter = waiterFor();
  rig.pool.wait(waiter);
  await turns();
  assert.equal(rig.requests.length, 0);
  rig.pool.onAttached('n1', credential);
  await turns();
  assert.equal(waiter.link?.id, 'l0');
});

test('a second link to another agent is sought once the first is used', async () => {
  const rig = makeRig();
  rig.agents = ['a1', 'a2'];
  rig.pool.onAttached('n1', credential);
  rig.pool.wait(waiterFor());
  await turns();
  assert.equal(rig.links.length, 1);
  assert.equal(rig.pool.pick()?.id, 'l0');
  await turns();
  assert.deepEqual(
    rig.links.map(({ instance }) => instance),
    ['a1', 'a2'],
  );
  assert.deepEqual(rig.requests[1]?.request.exclude, ['a1']);
  for (const link of rig.links) if (link.id === 'l0') link.session.streamCount = 3;
  assert.equal(rig.pool.pick()?.id, 'l1');
});

test('a movable refusal finds another agent, or nobody', async () => {
  const rig = makeRig();
  rig.pool.onAttached('n1', credential);
  rig.pool.wait(waiterFor());
  await turns();
  assert.equal(await rig.pool.other('a1'), undefined);
  rig.agents.push('a2');
  assert.equal((await rig.pool.other('a1'))?.instance, 'a2');
});

test('idle links are retired, an eager pool keeps its last; old and full ones are replaced', async () => {
  for (const isEager of [false, true]) {
    const rig = makeRig(isEager);
    rig.pool.onAttached('n1', credential);
    if (!isEager) rig.pool.wait(waiterFor());
    await turns();
    const [link] = rig.links;
    assert.ok(link);
    link.idle = 5 * 60 * 1_000;
    rig.pool.maintain();
    assert.equal(link.retiredWith, isEager ? undefined : 'idle_timeout');
    if (!isEager) continue;
    link.load = { ...link.load, bytesOut: 256 * 1024 ** 3 };
    rig.pool.maintain();
    assert.equal(link.retiredWith, 'link_lost');
    await turns();
    assert.equal(rig.links.length, 2);
  }
});

test('a slow link with streams waiting for it gets another to the same agent beside it', async () => {
  const rig = makeRig();
  rig.pool.onAttached('n1', credential);
  rig.pool.wait(waiterFor());
  await turns();
  const [link] = rig.links;
  assert.ok(link);
  link.load = { ...link.load, rttMs: 40, waiting: 2 };
  rig.pool.maintain();
  await turns();
  assert.equal(rig.requests[1]?.request.want, 'a1');
  assert.equal(rig.links.length, 2);
});
