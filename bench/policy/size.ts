import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildBundle, decide, type GuardSettings, PolicyHost } from '../../src/policy/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { usageOf } from '../process-usage.ts';
import { startOpa } from './opa-server.ts';
import { inputOf, type SizeKind, writeSubject } from './subject.ts';

/** Both are asked in turn this often. */
const ROUNDS = 2;
const WARM_UP_MS = 2_000;
const KIB_PER_MIB = 1_024;

export interface SizeOptions {
  readonly kind: SizeKind;
  readonly count: number;
  readonly perSecond: number;
  /** Of each round. */
  readonly seconds: number;
}

interface Latencies {
  readonly p50Us: number;
  readonly p99Us: number;
}

export interface SizeResult {
  readonly kind: SizeKind;
  readonly count: number;
  readonly pool: Latencies;
  readonly opa: Latencies;
  /** Inside the worker, by its own clock. */
  readonly engineP50Us: number;
  /** Opens that the pool refused because the machine had no time for them; not among the latencies. */
  readonly overloads: number;
  /** From the bundle's file to the first decision that could be made, vectors and canary run. */
  readonly activationMs: number;
  readonly opaReadyMs: number;
  /** What the open policy added to this process. */
  readonly memoryMib: number;
  readonly opaMemoryMib: number;
}

const percentile = (samples: number[], share: number): number => {
  samples.sort((a, b) => a - b);
  return Math.round(samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? Number.NaN);
};

const latenciesOf = (samplesUs: number[]): Latencies => ({
  p50Us: percentile(samplesUs, 0.5),
  p99Us: percentile(samplesUs, 0.99),
});

/**
 * Arrivals in a Poisson process of a fixed mean rate, whatever the answers do; latency counts from when each was due.
 * The loop never sleeps, since a timer's millisecond would be ten times what is measured.
 */
const atRate = async (perSecond: number, forMs: number, ask: () => Promise<boolean>): Promise<number[]> => {
  const samplesUs: number[] = [];
  const pending: Promise<void>[] = [];
  const gapMs = (): number => (-Math.log(1 - Math.random()) * 1_000) / perSecond;
  const beganMs = performance.now();
  let dueMs = beganMs + gapMs();
  while (dueMs - beganMs < forMs) {
    while (dueMs <= performance.now()) {
      const fromMs = dueMs;
      const answered = ask().then((counts) => {
        if (counts) samplesUs.push((performance.now() - fromMs) * 1_000);
      });
      answered.catch(() => undefined);
      pending.push(answered);
      dueMs += gapMs();
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(pending);
  return samplesUs;
};

const rssMib = (pid: number): number => Math.round((usageOf({ it: pid })['it']?.rssKib ?? 0) / KIB_PER_MIB);

/** Asks the pool and OPA's server, in turn, for decisions that one policy of this size allows. */
export const measureSize = async (options: SizeOptions): Promise<SizeResult> => {
  const { kind, count, perSecond, seconds } = options;
  const scratch = mkdtempSync(join(tmpdir(), 'sallyport-bench-policy-'));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  const closers: (() => Promise<unknown>)[] = [];
  try {
    const directory = join(scratch, 'policy');
    const bundleFile = join(scratch, 'bundle.tar.gz');
    writeSubject(directory, kind, count);
    writeFileSync(bundleFile, (await buildBundle(directory, undefined, { sequence: 1 })).bytes);
    const beforeMib = rssMib(process.pid);
    const openedMs = performance.now();
    const source = { file: bundleFile };
    const host = await PolicyHost.open({ source, clock: systemClock, logger: silentLogger });
    const activationMs = Math.round(performance.now() - openedMs);
    closers.push(() => host.close());
    const opa = await startOpa(directory);
    closers.push(() => opa.close());

    const guard: GuardSettings = {
      allowLoopbackPorts: new Set(),
      ownListeners: [],
      allowAuditDatabase: false,
    };
    let number = 0;
    let overloads = 0;
    const engineUs: number[] = [];
    const askPool = async (): Promise<boolean> => {
      const decision = await decide(host, inputOf(kind, count, (number += 1)), guard);
      if (decision.decided_by === 'engine') {
        overloads += 1;
        return false;
      }
      // Every input is allowed: anything else would be a measurement of something else.
      if (!decision.allow) throw new Error(`the pool denies ${JSON.stringify(decision.reasons)}`);
      engineUs.push(decision.eval_us);
      return true;
    };
    const askOpa = async (): Promise<boolean> => {
      const input = inputOf(kind, count, (number += 1));
      const one = { ...input, target: { ...input.target, address: input.target.addresses[0] } };
      if (!(await opa.ask(JSON.stringify(one)))) throw new Error(`opa denies ${JSON.stringify(one)}`);
      return true;
    };
    for (const ask of [askPool, askOpa]) await atRate(perSecond, WARM_UP_MS, ask);
    engineUs.length = 0;
    const pool: number[] = [];
    const server: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      pool.push(...(await atRate(perSecond, seconds * 1_000, askPool)));
      server.push(...(await atRate(perSecond, seconds * 1_000, askOpa)));
    }
    return {
      ...{ kind, count, overloads, activationMs },
      pool: latenciesOf(pool),
      opa: latenciesOf(server),
      engineP50Us: percentile(engineUs, 0.5),
      opaReadyMs: Math.round(opa.readyMs),
      // Before the server is counted in: it is a child of this process.
      memoryMib: Math.round(process.memoryUsage.rss() / KIB_PER_MIB ** 2) - beforeMib,
      opaMemoryMib: rssMib(opa.pid),
    };
  } finally {
    for (const close of closers.reverse()) await close();
  }
};
