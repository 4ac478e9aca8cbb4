import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  DEFAULT_BUNDLE_FILE,
  developmentBundle,
  type HeldBundle,
  keySigner,
  signBundle,
} from '../../src/policy/index.ts';
import { writeFileAtomically } from '../../src/runtime/index.ts';
import { sallyport } from '../../test/support/command.ts';
import { createDeployment } from '../../test/support/deployment.ts';
import { eventually } from '../../test/support/eventually.ts';
import { type Flow, Flows } from '../load/flows.ts';
import { Generator, startTarget } from '../load/generator.ts';
import { type Latency, latencyOf } from '../load/latency.ts';
import { portOfListen } from '../tunnels/sallyport.ts';
import type { Measurement } from './scenario.ts';

/** Live streams of each connection; `few` is what the first activation denies, `many` what the second would. */
const STREAMS = { kept: 6_700, few: 300, many: 3_000 } as const;
const LIVE = 10_000;
/** Of each stream: 2,000 echoes of 1 KiB a second over all. */
const PIECE_EVERY_MS = 5_000;
const PING_PAUSE_MS = 2;
const PING_MS = 3_000;
/** What is ended must be ended within this, or the run fails. */
const ENDED_WITHIN_MS = 60_000;

type Name = keyof typeof STREAMS;

interface AgentPolicy {
  readonly active: { readonly sequence: number; readonly activatedMs: number };
  readonly held?: HeldBundle;
}

/** The wall clock's milliseconds as this process's monotonic ones. */
const monotonicOf = (unixMs: number): number => unixMs - performance.timeOrigin;

/** 10,000 live streams, an activation that denies 300 of them, then one that would close 3,000 and is held. */
export const measureActivation = async (): Promise<Measurement> => {
  const closers: (() => unknown)[] = [];
  const closer = { after: (close: () => unknown) => closers.push(close) } as never;
  const flows = new Flows({ pieceEveryMs: PIECE_EVERY_MS, toTargetProcess: true });
  closers.push(() => flows.close());
  try {
    const echo = await startTarget();
    closers.push(() => echo.close());
    const pingTarget = await startTarget();
    closers.push(() => pingTarget.close());
    const generator = new Generator();
    closers.push(() => generator.close());
    const names = Object.keys(STREAMS) as Name[];
    const targets = [...names.map((name) => [name, echo.port] as const), ['ping', pingTarget.port] as const];
    const deployment = await createDeployment(closer, {
      publish: Object.fromEntries(targets.map(([name, at]) => [name, `127.0.0.1:${at}`])),
    });
    await deployment.startAll();

    const policyOf = async (): Promise<AgentPolicy> => {
      const response = await fetch(`${deployment.statusUrl('agent')}/status`);
      return ((await response.json()) as { policy: AgentPolicy }).policy;
    };
    let sequence = (await policyOf()).active.sequence;
    const signer = keySigner(readFileSync(join(deployment.directory, 'policy-signing.key'), 'utf8'));
    /** Signs a policy that denies these connections and puts it where the agent looks; when that was. */
    const replaceBundle = async (forbidden: readonly Name[]): Promise<number> => {
      sequence += 1;
      const connections = targets.map(([name, at]) => ({ name, host: '127.0.0.1', port: at }));
      const bytes = developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), connections, {
        sequence,
        forbidden: [...forbidden],
      });
      const signed = await signBundle(bytes, signer, 'policy-1');
      const atMs = performance.now();
      writeFileAtomically(join(deployment.directory, 'bundle.tar.gz'), signed);
      return atMs;
    };
    const ping = async (): Promise<Latency> => {
      const pingPort = portOfListen(deployment.listenOf('ping'));
      const command = { load: 'pings', port: pingPort, uploads: 0, pauseMs: PING_PAUSE_MS } as const;
      return (await generator.run({ ...command, durationMs: PING_MS })).latency;
    };
    const open = async (name: Name): Promise<Flow[]> => flows.open(deployment.listenOf(name), STREAMS[name]);
    const live = { kept: await open('kept'), few: await open('few'), many: await open('many') };
    /** When each of these flows was seen to be reset, after the activation of the newest sequence. */
    const resetsOf = async (some: readonly Flow[]): Promise<Latency & { activeMs: number }> => {
      await eventually(
        'the denied streams have ended',
        () => (some.every(({ ended }) => ended) ? true : undefined),
        ENDED_WITHIN_MS,
      );
      const { active } = await policyOf();
      if (active.sequence !== sequence) throw new Error(`sequence ${active.sequence} is active`);
      const ended = some.filter(({ reset }) => !reset).length;
      if (ended > 0) throw new Error(`${ended} denied streams ended without a reset`);
      const activeMs = monotonicOf(active.activatedMs);
      return { ...latencyOf(some.map(({ endedAtMs }) => endedAtMs - activeMs)), activeMs };
    };
    const untouched = (...some: (readonly Flow[])[]): void => {
      const hurt = some.flat().filter(({ ended, wrong }) => ended || wrong).length;
      if (hurt > 0) throw new Error(`${hurt} streams that stay allowed were hurt`);
    };

    await ping();
    const quiet = await ping();
    const pinging = ping();
    const replacedMs = await replaceBundle(['few']);
    const few = await resetsOf(live.few);
    const meanwhile = await pinging;
    untouched(live.kept, live.many);

    const pingingHeld = ping();
    const heldFromMs = await replaceBundle(['few', 'many']);
    const held = await eventually(
      'it is held',
      async () => {
        const { held: found } = await policyOf();
        return found?.sequence === sequence ? found : undefined;
      },
      ENDED_WITHIN_MS,
    );
    const heldMs = performance.now() - heldFromMs;
    const whileReviewed = await pingingHeld;
    const expected = LIVE - STREAMS.few;
    if (held.wouldClose !== STREAMS.many || held.live < expected) throw new Error(JSON.stringify(held));
    untouched(live.kept, live.many);
    const file = join(dirname(deployment.gatewayFile), 'agent.yaml');
    const pingingMany = ping();
    const confirmed = await sallyport(['policy', 'activate', held.id, '--reason', 'benchmark', '-c', file]);
    if (confirmed.code !== 0) throw new Error(confirmed.stderr);
    const many = await resetsOf(live.many);
    const confirmedPing = await pingingMany;
    await flows.settle(live.kept);
    return {
      reset_max_ms: few.maxMs,
      reset_p50_ms: few.p50Ms,
      reset_p99_ms: few.p99Ms,
      replaced_to_active_ms: few.activeMs - replacedMs,
      ping_p99_ms: meanwhile.p99Ms,
      ping_p50_ms: meanwhile.p50Ms,
      ping_quiet_p99_ms: quiet.p99Ms,
      ping_quiet_p50_ms: quiet.p50Ms,
      ping_review_p99_ms: whileReviewed.p99Ms,
      held_after_ms: heldMs,
      many_reset_p50_ms: many.p50Ms,
      many_reset_p99_ms: many.p99Ms,
      many_reset_max_ms: many.maxMs,
      many_ping_p99_ms: confirmedPing.p99Ms,
      kept_streams: live.kept.length,
      kept_mib: live.kept.reduce((sum, { received }) => sum + received, 0) / 1024 ** 2,
    };
  } finally {
    for (const close of closers.reverse()) await close();
  }
};
