import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GatewayLink } from '../../src/gateway/gateway-link.ts';
import { ANSWER_MS, type Found, LinkSearch, OPENING_MS } from '../../src/gateway/link-search.ts';
import type { LinkOffer, LinkRefusal } from '../../src/protocol/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { asLink, credential, FakeLink, makeRig, turns, waiterFor } from './pool-rig.ts';

const offerOf = (node: string): LinkOffer => ({ link_id: `of ${node}`, node }) as LinkOffer;

/** A search whose every step the test takes by hand. */
const makeSearch = (nodes: string[]) => {
  const clock = new ManualClock();
  const asked: string[] = [];
  const answers = new Map<string, PromiseWithResolvers<LinkOffer | LinkRefusal>>();
  const opens = new Map<string, PromiseWithResolvers<GatewayLink>>();
  const told: string[] = [];
  const state = { mayOpen: true };
  const search = new LinkSearch({
    clock,
    nodes: () => nodes,
    mayOpen: () => state.mayOpen,
    request: (node) => {
      asked.push(node);
      const answer = deferred<LinkOffer | LinkRefusal>();
      answers.set(node, answer);
      return answer.promise;
    },
    open: (node, _offer, signal) => {
      const open = deferred<GatewayLink>();
      opens.set(node, open);
      signal.addEventListener('abort', () => told.push(`given up at ${node}`));
      return open.promise;
    },
    decline: (node, { link_id }) => told.push(`declined at ${node}: ${link_id}`),
    silent: (node) => told.push(`silent ${node}`),
    heard: (node) => told.push(`heard ${node}`),
    onLink: ({ id }) => told.push(`link ${id}`),
  });
  const linkOver = (node: string): FakeLink => new FakeLink(`over ${node}`, node, 'a1', 0);
  return {
    clock,
    asked,
    told,
    state,
    search,
    linkOver,
    offer: (node: string) => answers.get(node)?.resolve(offerOf(node)),
    refuse: (node: string) =>
      answers.get(node)?.resolve({ refused: true, code: 'no_agent', detail: `none at ${node}` }),
    lose: (node: string) => answers.get(node)?.reject(new Error(`${node} is lost`)),
    up: (link: FakeLink) => opens.get(link.node)?.resolve(asLink(link)),
  };
};

/** `Promise.withResolvers` is not in Node 20. */
interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}
const deferred = <T>(): PromiseWithResolvers<T> => {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<T>((done, failed) => {
    resolve = done;
    reject = failed;
  });
  return { promise, resolve, reject };
};

/** What a promise has come to, once everything that is ready has happened. */
const sofar = async (found: Promise<Found>): Promise<Found | 'pending'> => {
  await turns();
  return Promise.race([found, Promise.resolve('pending' as const)]);
};

test('a node that answers in time is the only one asked', async () => {
  const rig = makeSearch(['n1', 'n2']);
  const found = rig.search.start();
  rig.clock.advance(ANSWER_MS - 1);
  rig.offer('n1');
  await turns();
  rig.clock.advance(OPENING_MS - 1);
  const link = rig.linkOver('n1');
  rig.up(link);
  assert.deepEqual(await sofar(found), { link });
  rig.clock.advance(60_000);
  assert.deepEqual(rig.asked, ['n1']);
  assert.equal(rig.clock.pendingCount, 0);
});

test('a silent node holds up nobody, and its late offer is declined', async () => {
  const rig = makeSearch(['n1', 'n2']);
  const found = rig.search.start();
  rig.clock.advance(ANSWER_MS - 1);
  assert.deepEqual(rig.asked, ['n1']);
  rig.clock.advance(1);
  assert.deepEqual(rig.asked, ['n1', 'n2']);
  assert.deepEqual(rig.told, ['silent n1']);
  rig.offer('n2');
  await turns();
  rig.up(rig.linkOver('n2'));
  assert.ok('link' in (await found));
  rig.told.length = 0;
  rig.offer('n1');
  await turns();
  assert.deepEqual(rig.told, ['heard n1', 'declined at n1: of n1']);
});

test('an answer that is late but first is taken', async () => {
  const rig = makeSearch(['n1', 'n2']);
  const found = rig.search.start();
  rig.clock.advance(ANSWER_MS);
  rig.offer('n1');
  await turns();
  const link = rig.linkOver('n1');
  rig.up(link);
  assert.deepEqual(await sofar(found), { link });
  rig.offer('n2');
  await turns();
  assert.equal(rig.told.at(-1), 'declined at n2: of n2');
});

test('a handshake that does not get on keeps no other node from being asked, and is given up', async () => {
  const rig = makeSearch(['n1', 'n2']);
  const found = rig.search.start();
  rig.offer('n1');
  await turns();
  rig.clock.advance(OPENING_MS - 1);
  assert.deepEqual(rig.asked, ['n1']);
  rig.clock.advance(1);
  assert.deepEqual(rig.asked, ['n1', 'n2']);
  rig.offer('n2');
  await turns();
  const link = rig.linkOver('n2');
  rig.up(link);
  assert.deepEqual(await sofar(found), { link });
  assert.ok(rig.told.includes('given up at n1'));
  assert.ok(!rig.told.includes('silent n1'), 'it has answered');
});

test('of two links that come up one is used, the other retired at once', async () => {
  const rig = makeSearch(['n1', 'n2']);
  const found = rig.search.start();
  rig.offer('n1');
  await turns();
  rig.clock.advance(OPENING_MS);
  rig.offer('n2');
  await turns();
  const [first, second] = [rig.linkOver('n1'), rig.linkOver('n2')];
  rig.up(second);
  rig.up(first);
  assert.deepEqual(await sofar(found), { link: second });
  assert.equal(second.retiredWith, undefined);
  assert.deepEqual(first.retiredWith, { reason: 'link_lost', deadlineMs: 0 });
  assert.equal(rig.told.filter((line) => line.startsWith('link')).length, 1);
});

test('a link that takes no streams any more is no result', async () => {
  const rig = makeSearch(['n1']);
  const found = rig.search.start();
  rig.offer('n1');
  await turns();
  const link = rig.linkOver('n1');
  link.isOpenable = false;
  rig.up(link);
  const result = await sofar(found);
  assert.ok(result !== 'pending' && 'failure' in result && result.failure.code === 'link_failed');
});

test('after a failure the next node is asked without delay; a refusal is the reason given', async () => {
  const rig = makeSearch(['n1', 'n2', 'n3']);
  const found = rig.search.start();
  rig.lose('n1');
  await turns();
  rig.refuse('n2');
  await turns();
  assert.deepEqual(rig.asked, ['n1', 'n2', 'n3']);
  rig.lose('n3');
  assert.deepEqual(await sofar(found), { failure: { code: 'no_agent', detail: 'none at n2' } });
});

test('a silent node is waited for while no other has refused, and no longer', async () => {
  const alone = makeSearch(['n1']);
  const waits = alone.search.start();
  alone.clock.advance(9_000);
  assert.equal(await sofar(waits), 'pending');
  alone.lose('n1');
  assert.deepEqual(await sofar(waits), { failure: { code: 'link_failed', detail: 'n1 is lost' } });

  const rig = makeSearch(['n1', 'n2']);
  const found = rig.search.start();
  rig.clock.advance(ANSWER_MS);
  rig.refuse('n2');
  assert.deepEqual(await sofar(found), { failure: { code: 'no_agent', detail: 'none at n2' } });
});

test('a node that logs in while another is silent is asked at once', async () => {
  const nodes = ['n1'];
  const rig = makeSearch(nodes);
  void rig.search.start();
  nodes.push('n2');
  rig.search.nudge();
  assert.deepEqual(rig.asked, ['n1'], 'the first has time left');
  rig.clock.advance(ANSWER_MS);
  nodes.push('n3');
  rig.search.nudge();
  assert.deepEqual(rig.asked, ['n1', 'n2']);
  rig.clock.advance(ANSWER_MS);
  nodes.push('n4');
  assert.deepEqual(rig.asked, ['n1', 'n2', 'n3']);
  rig.clock.advance(ANSWER_MS);
  rig.search.nudge();
  assert.deepEqual(rig.asked, ['n1', 'n2', 'n3', 'n4']);
});

test('a search that is stopped asks nobody more', async () => {
  const rig = makeSearch(['n1', 'n2']);
  const found = rig.search.start();
  rig.search.stop({ code: 'gateway_shutdown', detail: 'x' });
  rig.clock.advance(ANSWER_MS);
  rig.offer('n1');
  assert.deepEqual(await sofar(found), { failure: { code: 'gateway_shutdown', detail: 'x' } });
  assert.deepEqual(rig.asked, ['n1']);
  assert.equal(rig.told.at(-1), 'declined at n1: of n1');
});

test('a gateway that has all its links asks nobody', async () => {
  const rig = makeSearch(['n1']);
  rig.state.mayOpen = false;
  const result = await rig.search.start();
  assert.ok('failure' in result && result.failure.code === 'overloaded');
  assert.deepEqual(rig.asked, []);
});

test('an application waits for the answer time of a silent node and not longer; the next one not even that', async () => {
  const rig = makeRig();
  rig.frozen.add('n1');
  rig.pool.onAttached('n1', credential);
  rig.pool.onAttached('n2', credential);
  const first = waiterFor();
  rig.pool.wait(first);
  await turns();
  rig.clock.advance(ANSWER_MS);
  await turns();
  assert.equal(first.link?.node, 'n2');
  rig.agents.push('a2');
  rig.pool.pick();
  await turns();
  assert.deepEqual(
    rig.requests.map(({ node }) => node),
    ['n1', 'n2', 'n2'],
    'a silent node is asked last, although the other has a link already',
  );
  rig.thaw('n1');
  await turns();
  assert.equal(rig.links.length, 2);
  assert.equal(rig.declined.length, 1, 'its offer was declined');
});

test('a slow handshake that takes the last place for a link is not given up for want of another', async () => {
  const rig = makeSearch(['n1', 'n2']);
  const found = rig.search.start();
  rig.offer('n1');
  await turns();
  // The handshake under way counts among the links that the gateway may have.
  rig.state.mayOpen = false;
  rig.clock.advance(OPENING_MS);
  assert.equal(await sofar(found), 'pending');
  assert.deepEqual(rig.asked, ['n1']);
  const link = rig.linkOver('n1');
  rig.up(link);
  assert.deepEqual(await found, { link });
});
