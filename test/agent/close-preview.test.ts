import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { type ClosePreviewDeps, previewClosing } from '../../src/agent/close-preview.ts';
import { type LiveStream, LiveStreams } from '../../src/agent/live-streams.ts';
import { decideWithin, ManagedSettings, type PolicyHost } from '../../src/policy/index.ts';
import { Turns } from '../../src/agent/turns.ts';
import { isAppError, systemClock } from '../../src/runtime/index.ts';
import { compileOrders, keyOf, openGuard, openHost, streamInput } from '../policy/support.ts';

const NO_VECTORS = { 'vectors/orders.yaml': '[]' };
const never = new AbortController().signal;

const depsOf = (host: PolicyHost, streams: LiveStreams): ClosePreviewDeps => {
  const bounds = () => ({ guard: openGuard, managed: ManagedSettings.absent });
  const { time, managed } = streamInput();
  return {
    host,
    review: {
      streams,
      turns: new Turns(systemClock),
      maxClosePercent: 20,
      decide: (candidate, base) => decideWithin(candidate, base, bounds(), 'recheck'),
    },
    published: () => [],
    now: () => ({ time, managed }),
    bounds,
  };
};

const live = (principals: readonly string[]): LiveStreams => {
  const streams = new LiveStreams();
  for (const [at, principal] of principals.entries()) {
    const base = streamInput({ key: keyOf(principal) });
    const stream = { id: `s${String(at)}`, base, addresses: ['10.1.2.3'], rule: 'orders-app', openedAtMs: 0 };
    streams.add(stream as unknown as LiveStream);
  }
  return streams;
};

const hosted = async (t: TestContext): Promise<PolicyHost> => openHost(t, await compileOrders(t, NO_VECTORS));

test('what closes is named up to a limit, and counted beyond it', async (t) => {
  const host = await hosted(t);
  const principals = Array.from({ length: 1_010 }, (_, at) => (at < 5 ? 'orders-app' : 'nobody'));
  const answer = (await previewClosing(
    depsOf(host, live(principals)),
    await compileOrders(t, NO_VECTORS, 8),
    never,
  )) as Record<string, unknown>;
  assert.deepEqual(
    [
      answer['live'],
      answer['would_close'],
      (answer['streams'] as object[]).length,
      answer['streams_cut_off'],
    ],
    [1_010, 1_005, 1_000, 5],
  );
  assert.deepEqual(answer['reasons'], { no_rule: 1_005 });
  assert.equal(answer['would_hold'], true);
  assert.equal(host.active?.sequence, 7);
});

test('a preview leaves the order in which streams are cut as the review of an activation set it', async (t) => {
  const host = await hosted(t);
  const streams = live(['orders-app', 'nobody']);
  const [kept, closed] = [...streams];
  assert.ok(kept !== undefined && closed !== undefined);
  kept.wouldClose = true;
  closed.wouldClose = false;
  const deps = depsOf(host, streams);
  const answer = await previewClosing(deps, await compileOrders(t, NO_VECTORS, 8), never);
  assert.equal((answer as Record<string, unknown>)['would_close'], 1);
  assert.deepEqual([kept.wouldClose, closed.wouldClose], [true, false]);
});

test('a preview that is given up ends its engine, and the host goes on', async (t) => {
  const host = await hosted(t);
  const deadline = new AbortController();
  let opened: Awaited<ReturnType<PolicyHost['openCandidate']>> | undefined;
  const deps = depsOf(host, live(Array.from({ length: 500 }, () => 'orders-app')));
  const given = previewClosing(
    {
      ...deps,
      host: {
        active: host.active,
        openCandidate: async (bytes, signal) => {
          opened = await host.openCandidate(bytes, signal);
          deadline.abort();
          return opened;
        },
      },
    },
    await compileOrders(t, NO_VECTORS, 8),
    deadline.signal,
  );
  await assert.rejects(given, (error) => !isAppError(error));
  const asked = { action: 'stream', input: '{}', addresses: [] } as const;
  const answer = await opened?.evaluate(asked, 'x');
  assert.ok(answer?.kind === 'failed');
  assert.match(answer.detail, /closed/);
  const bounds = { guard: openGuard, managed: ManagedSettings.absent };
  assert.equal((await decideWithin(host, streamInput(), bounds)).allow, true);
});
