import type { Generator } from '../load/generator.ts';
import { usageOf } from '../process-usage.ts';
import type { Tunnel } from '../tunnels/tunnel.ts';
import type { Measurement, Scenario } from './scenario.ts';

const WARM_UP_MS = 700;
/** Opening a stream runs far more code than moving a byte: until it is compiled, V8 is what is measured. */
const OPENS_WARM_UP_MS = 5_000;
const BULK_MS = 3_000;
const REQUESTS_MS = 3_000;
const KEEP_ALIVE_CONNECTIONS = 48;
const OPEN_CONCURRENCY = 64;
const OPENS_MS = 4_000;
const PACED_OPENS_PER_SECOND = 500;
const PING_UPLOADS = 4;
const PING_MS = 4_000;
const STALL_READERS = 7;
const STALL_ROUNDS = 3;
const IDLE_STREAMS = 10_000;
const GIB = 1024 ** 3;

/** CPU-seconds of each of the tunnel's processes while something runs. */
const withCpu = async <T>(tunnel: Tunnel, run: () => Promise<T>): Promise<[T, Record<string, number>]> => {
  const before = usageOf(tunnel.processes);
  const result = await run();
  const after = usageOf(tunnel.processes);
  const spent = Object.keys(tunnel.processes).map((role): [string, number] => [
    role,
    (after[role]?.cpuSeconds ?? 0) - (before[role]?.cpuSeconds ?? 0),
  ]);
  return [result, Object.fromEntries(spent)];
};

const bulkScenario = (direction: 'up' | 'down', streams: number): Scenario => ({
  name: `${direction}${streams}`,
  description: `${streams} stream${streams === 1 ? '' : 's'} ${direction} for ${BULK_MS / 1000} s, MiB/s`,
  headline: { metric: 'mib_per_second', better: 'higher' },
  async measure(tunnel, generator) {
    const command = { load: 'bulk', port: tunnel.port, direction, streams } as const;
    await generator.run({ ...command, durationMs: WARM_UP_MS });
    const [result, cpu] = await withCpu(tunnel, () => generator.run({ ...command, durationMs: BULK_MS }));
    const perGib = Object.entries(cpu).map(([role, seconds]): [string, number] => [
      `cpu_s_per_gib_${role}`,
      seconds / (result.bytes / GIB),
    ]);
    return { mib_per_second: result.mibPerSecond, ...Object.fromEntries(perGib) };
  },
});

const requestResponse: Scenario = {
  name: 'requests',
  description: `request/response, ${KEEP_ALIVE_CONNECTIONS} keep-alive connections, 128 B → 512 B, per second`,
  headline: { metric: 'per_second', better: 'higher' },
  async measure(tunnel, generator) {
    const command = {
      load: 'requests',
      port: tunnel.port,
      connections: KEEP_ALIVE_CONNECTIONS,
      requestBytes: 128,
      responseBytes: 512,
    } as const;
    await generator.run({ ...command, durationMs: WARM_UP_MS });
    const result = await generator.run({ ...command, durationMs: REQUESTS_MS });
    return {
      per_second: result.perSecond,
      p50_ms: result.latency.p50Ms,
      p99_ms: result.latency.p99Ms,
    };
  },
};

const newStreams: Scenario = {
  name: 'opens',
  description: `new streams (connect, 64 B, answer, FIN) with ${OPEN_CONCURRENCY} at a time, per second`,
  headline: { metric: 'per_second', better: 'higher' },
  async measure(tunnel, generator) {
    const command = { load: 'opens', port: tunnel.port, concurrency: OPEN_CONCURRENCY } as const;
    await generator.run({ ...command, durationMs: OPENS_WARM_UP_MS });
    const [result, cpu] = await withCpu(tunnel, () => generator.run({ ...command, durationMs: OPENS_MS }));
    const share = Object.entries(cpu).map(([role, seconds]): [string, number] => [
      `cpu_s_per_s_${role}`,
      seconds / (OPENS_MS / 1000),
    ]);
    return {
      per_second: result.perSecond,
      failed: result.failed,
      p50_ms: result.latency.p50Ms,
      p99_ms: result.latency.p99Ms,
      ...Object.fromEntries(share),
    };
  },
};

const openLatency: Scenario = {
  name: 'open-latency',
  description: `time from connect() to the first answered byte at ${PACED_OPENS_PER_SECOND} new streams a second`,
  headline: { metric: 'p50_ms', better: 'lower' },
  async measure(tunnel, generator) {
    const command = { load: 'paced_opens', port: tunnel.port, perSecond: PACED_OPENS_PER_SECOND } as const;
    await generator.run({ ...command, durationMs: OPENS_WARM_UP_MS });
    const result = await generator.run({ ...command, durationMs: OPENS_MS });
    return { p50_ms: result.latency.p50Ms, p99_ms: result.latency.p99Ms, failed: result.failed };
  },
};

const pingUnderLoad: Scenario = {
  name: 'ping',
  description: `64 B ping-pong under ${PING_UPLOADS} uploads`,
  headline: { metric: 'p99_ms', better: 'lower' },
  async measure(tunnel, generator) {
    const command = { load: 'pings', port: tunnel.port, uploads: PING_UPLOADS } as const;
    await generator.run({ ...command, durationMs: WARM_UP_MS });
    const result = await generator.run({ ...command, durationMs: PING_MS });
    return {
      p50_ms: result.latency.p50Ms,
      p99_ms: result.latency.p99Ms,
      uploads_mib_per_second: result.bulk.mibPerSecond,
    };
  },
};

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

const stalledReader: Scenario = {
  name: 'stalled',
  description: `${STALL_READERS} downloads beside one that is never read, as a share of the same ${STALL_READERS} alone`,
  headline: { metric: 'share_kept', better: 'higher' },
  async measure(tunnel, generator) {
    const command = { load: 'stalled', port: tunnel.port, readers: STALL_READERS } as const;
    await generator.run({ ...command, stalled: 0, durationMs: WARM_UP_MS });
    const alone: number[] = [];
    const beside: number[] = [];
    for (let round = 0; round < STALL_ROUNDS; round++) {
      alone.push((await generator.run({ ...command, stalled: 0, durationMs: 2_000 })).mibPerSecond);
      beside.push((await generator.run({ ...command, stalled: 1, durationMs: 2_000 })).mibPerSecond);
    }
    return {
      share_kept: median(beside) / median(alone),
      alone_mib_per_second: median(alone),
      beside_mib_per_second: median(beside),
    };
  },
};

const idleMemory = async (tunnel: Tunnel, generator: Generator): Promise<Measurement> => {
  const command = { load: 'idle', port: tunnel.port, streams: IDLE_STREAMS } as const;
  await generator.run({ load: 'opens', port: tunnel.port, concurrency: 8, durationMs: WARM_UP_MS });
  const before = usageOf(tunnel.processes);
  const { streams, stoppedBy } = await generator.run({ ...command, step: 'open' });
  if (stoppedBy !== undefined) console.error(`idle: stopped at ${streams} streams: ${stoppedBy}`);
  if (streams === 0) throw new Error('not one idle stream could be held');
  const after = usageOf(tunnel.processes);
  await generator.run({ ...command, step: 'check' });
  await generator.run({ ...command, step: 'close' });
  const perRole = Object.keys(tunnel.processes).map((role): [string, number] => [
    `kib_per_stream_${role}`,
    ((after[role]?.rssKib ?? 0) - (before[role]?.rssKib ?? 0)) / streams,
  ]);
  return {
    kib_per_stream: perRole.reduce((sum, [, kib]) => sum + kib, 0),
    streams,
    ...Object.fromEntries(perRole),
  };
};

const idleStreams: Scenario = {
  name: 'idle',
  description: `${IDLE_STREAMS} idle streams (or as many as are let in): resident memory per stream, KiB, all processes`,
  headline: { metric: 'kib_per_stream', better: 'lower' },
  measure: idleMemory,
};

export const SCENARIOS: readonly Scenario[] = [
  bulkScenario('up', 1),
  bulkScenario('up', 8),
  bulkScenario('down', 1),
  bulkScenario('down', 8),
  requestResponse,
  newStreams,
  openLatency,
  pingUnderLoad,
  stalledReader,
  idleStreams,
];
