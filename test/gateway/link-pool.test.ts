import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asLink, credential, makeRig, turns, waiterFor, withLink } from './pool-rig.ts';

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
  rig.pool.onLinkEnd(asLink(link));
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

test('who comes when every node has refused the key is told at once, until one takes it', async () => {
  const rig = makeRig(false, ['n1', 'n2']);
  rig.pool.onAttached('n1', credential);
  rig.pool.onDetached('n1', { code: 'not_authorized', detail: 'no longer valid' });
  rig.clock.advance(1_000);
  const first = waiterFor();
  rig.pool.wait(first);
  assert.equal(rig.pool.waitingCount, 1, 'n2 is away and may have it');
  rig.pool.onKeyRevoked({ code: 'key_revoked', detail: 'key k_1 is revoked' });
  assert.equal(first.failure?.code, 'key_revoked');
  rig.clock.advance(1_000);
  const second = waiterFor();
  rig.pool.wait(second);
  assert.equal(second.failure?.code, 'key_revoked');
  assert.equal(rig.pool.waitingCount, 0);
  rig.pool.onDetached('n1');
  rig.pool.onAttached('n2', credential);
  const third = waiterFor();
  rig.pool.wait(third);
  await turns();
  assert.equal(third.link?.id, 'l0');
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
  const link = asLink(await withLink(rig, 'n1'));
  assert.equal(await rig.pool.another(link, 'overloaded'), undefined);
  rig.agents.push('a2');
  assert.equal((await rig.pool.another(link, 'overloaded'))?.instance, 'a2');
});

test('a movable refusal goes to another agent while a link to the same one is being made', async () => {
  const rig = makeRig();
  const link = await withLink(rig, 'n1');
  rig.agents.push('a2');
  rig.frozen.add('n1');
  link.load = { ...link.load, rttMs: 40, waiting: 2 };
  rig.pool.maintain();
  const other = rig.pool.another(asLink(link), 'target_unreachable');
  const same = rig.pool.another(asLink(link), 'dns_failure');
  await turns();
  assert.deepEqual(
    rig.requests.slice(1).map(({ request: { exclude, want } }) => ({ exclude, want })),
    [
      { exclude: [], want: 'a1' },
      { exclude: ['a1'], want: undefined },
    ],
    'what is wished alike is asked once',
  );
  rig.thaw('n1');
  assert.equal((await other)?.instance, 'a2');
  assert.equal(await same, await other);
});

test('a stream that is handed back because its node goes away may go to the same agent', async () => {
  const rig = makeRig();
  const link = await withLink(rig, 'n1');
  rig.pool.onAttached('n2', credential);
  link.isOpenable = false;
  rig.pool.onNodeLeaving('n1', 30_000);
  const another = await rig.pool.another(asLink(link), 'relay_shutdown');
  assert.equal(another?.node, 'n2');
  assert.equal(another.instance, 'a1');
});

test('a stream that is handed back because its link is replaced may go to the same agent', async () => {
  const rig = makeRig();
  const link = await withLink(rig, 'n1');
  link.isOpenable = false;
  const another = await rig.pool.another(asLink(link), 'link_lost');
  assert.equal(another?.instance, 'a1');
  assert.notEqual(another, asLink(link));
});

test('an agent that returns gets a link again, however many links lead to the other one', async () => {
  const rig = makeRig();
  rig.agents = ['a1', 'a2'];
  await withLink(rig, 'n1');
  rig.pool.pick();
  await turns();
  const [first, second] = rig.links;
  assert.ok(first !== undefined && second?.instance === 'a2');
  rig.agents = ['a1'];
  second.isOpenable = false;
  rig.pool.onLinkEnd(asLink(second));
  first.load = { ...first.load, rttMs: 40, waiting: 2 };
  rig.pool.maintain();
  await turns();
  assert.deepEqual(
    rig.links.filter(({ isOpenable }) => isOpenable).map(({ instance }) => instance),
    ['a1', 'a1'],
  );
  rig.agents = ['a1', 'a2'];
  rig.clock.advance(30_000);
  rig.pool.pick();
  await turns();
  assert.equal(rig.links.at(-1)?.instance, 'a2');
  assert.deepEqual(rig.requests.at(-1)?.request.exclude, ['a1']);
  // Two agents are enough.
  rig.clock.advance(30_000);
  const asked = rig.requests.length;
  rig.pool.pick();
  await turns();
  assert.equal(rig.requests.length, asked);
});

test('streams that stay are reason enough to look for a second agent', async () => {
  const rig = makeRig();
  const link = await withLink(rig, 'n1');
  rig.agents = ['a1', 'a2'];
  rig.pool.maintain();
  await turns();
  assert.equal(rig.links.length, 1, 'nobody uses it');
  link.session.streamCount = 1;
  rig.pool.maintain();
  await turns();
  assert.equal(rig.links[1]?.instance, 'a2');
});

test('a silent link is used by nobody while another can be made, and by all when none can', async () => {
  const rig = makeRig();
  const link = await withLink(rig, 'n1');
  link.isSilent = true;
  assert.equal(rig.pool.pick(), undefined);
  rig.refusal = { code: 'no_agent', detail: 'none' };
  const waiter = waiterFor();
  rig.pool.wait(waiter);
  await turns();
  assert.equal(waiter.link?.id, link.id);
  const next = waiterFor();
  rig.pool.wait(next);
  assert.equal(next.link?.id, link.id, 'a search that just failed is not repeated');
  rig.refusal = undefined;
  rig.clock.advance(300);
  const last = waiterFor();
  rig.pool.wait(last);
  await turns();
  assert.equal(last.link?.id, 'l1');
});

test('the way around a silent link leads to the same agent', async () => {
  const rig = makeRig();
  const link = await withLink(rig, 'n1', 'n2');
  rig.agents = ['a2', 'a1'];
  link.isSilent = true;
  const around = await rig.pool.around(asLink(link));
  assert.equal(around?.instance, 'a1');
  assert.equal(around.node, 'n2', 'the node without a link is asked first');
  const [, other] = rig.links;
  assert.ok(other);
  assert.equal((await rig.pool.around(asLink(link)))?.id, other.id, 'it is there already');
  other.isAnswering = false;
  assert.notEqual(
    (await rig.pool.around(asLink(link)))?.id,
    other.id,
    'what answers nothing is no way around',
  );
  rig.agents = ['a2'];
  for (const one of rig.links) one.isSilent = true;
  assert.equal(await rig.pool.around(asLink(link)), undefined);
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
    assert.equal(link.retiredWith?.reason, isEager ? undefined : 'idle_timeout');
    if (!isEager) continue;
    link.load = { ...link.load, bytesOut: 256 * 1024 ** 3 };
    rig.pool.maintain();
    assert.equal(rig.pool.pick()?.id, link.id, 'it serves until there is another');
    await turns();
    assert.equal(link.retiredWith?.reason, 'link_lost');
    assert.equal(rig.pool.pick()?.id, 'l1');
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

test('who waits for a link of the old key is served by the link of the new one', async () => {
  const [old, next] = [makeRig(), makeRig()];
  const link = await withLink(next, 'n1');
  old.frozen.add('n1');
  old.pool.onAttached('n1', credential);
  const waiter = waiterFor();
  old.pool.wait(waiter);
  await turns();
  old.pool.replaceBy(next.pool);
  await turns();
  assert.equal(waiter.link?.id, link.id);
});

test('who found a new link full is served by one that has room again', async () => {
  const rig = makeRig();
  const first = await withLink(rig, 'n1');
  first.isOpenable = false;
  const waiters = [waiterFor(), waiterFor()];
  const [fills, waits] = waiters;
  assert.ok(fills !== undefined && waits !== undefined);
  fills.serve = (link) => {
    fills.link = link;
    first.isOpenable = true;
    const second = rig.links[1];
    if (second !== undefined) second.isOpenable = false;
  };
  for (const waiter of waiters) rig.pool.wait(waiter);
  await turns();
  assert.equal(fills.link?.id, 'l1');
  assert.equal(waits.link?.id, 'l0');
});
