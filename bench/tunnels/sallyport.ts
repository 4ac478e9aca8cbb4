import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ReadyFile } from '../../src/cli/ready-file.ts';
import { endProcess } from '../load/child.ts';
import type { Tunnel, TunnelKind } from './tunnel.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sallyport', import.meta.url));
const READY_DEADLINE_MS = 60_000;
const POLL_MS = 10;

/** Name of the connection that the benchmark publishes. */
export const CONNECTION = 'bench';

export interface RunningUp {
  readonly ready: ReadyFile;
  readonly child: ChildProcess;
  readonly stateDirectory: string;
  /** From the start of the process to the ready file. */
  readonly readyMs: number;
  stop(): Promise<void>;
}

/** Where every process leaves a CPU profile when it ends, if anywhere. */
let profileDirectory: string | undefined;
/** Processes of the newest start, by role: whose profiles they are. */
export const profiled: Record<string, number> = {};
export const profileInto = (directory: string): void => {
  profileDirectory = directory;
};

const PROFILER = new URL('../profiler.mjs', import.meta.url).href;

const profileEnvironment = (): Record<string, string> =>
  profileDirectory === undefined
    ? {}
    : { NODE_OPTIONS: `--import=${PROFILER}`, BENCH_PROFILES: profileDirectory };

/** Starts `sallyport up` with one connection to the target: policy, durable audit and TLS on. */
export const startUp = async (targetPort: number, stateDirectory: string): Promise<RunningUp> => {
  const readyFile = join(stateDirectory, 'ready.json');
  const started = performance.now();
  const child = spawn(
    process.execPath,
    [PROGRAM, 'up', '--state', stateDirectory, '--publish', `${CONNECTION}=127.0.0.1:${targetPort}`],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...profileEnvironment() } },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-8_192)));
  }
  const stop = (): Promise<void> => endProcess(child);
  while (!existsSync(readyFile)) {
    if (child.exitCode !== null || performance.now() - started > READY_DEADLINE_MS) {
      await stop();
      throw new Error(`up is not ready: ${output}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const readyMs = performance.now() - started;
  const ready = JSON.parse(readFileSync(readyFile, 'utf8')) as ReadyFile;
  Object.assign(profiled, { relay: ready.pids.relay, agent: ready.pids.agent, gateway: ready.pids.gateway });
  return { ready, child, stateDirectory, readyMs, stop };
};

/** A directory that the Postgres user can pass through. */
export const makeStateDirectory = (): { path: string; remove(): void } => {
  const parent = mkdtempSync(join(tmpdir(), 'sallyport-bench-up-'));
  chmodSync(parent, 0o711);
  return { path: join(parent, 'state'), remove: () => rmSync(parent, { recursive: true, force: true }) };
};

export const portOfListen = (listen: string): number => Number(listen.slice(listen.lastIndexOf(':') + 1));

/** One state for all runs, so that only the first start makes a database and keys. */
let shared: { path: string; remove(): void } | undefined;
export const removeSharedState = (): void => {
  shared?.remove();
  shared = undefined;
};

export const sallyport: TunnelKind = {
  name: 'sallyport',
  unavailable: () => undefined,
  async open(targetPort): Promise<Tunnel> {
    shared ??= makeStateDirectory();
    const up = await startUp(targetPort, shared.path);
    const { relay, agent, gateway } = up.ready.pids;
    return {
      port: portOfListen(up.ready.connections[0]?.listen ?? ''),
      processes: { gateway, relay, agent },
      close: () => up.stop(),
    };
  },
};
