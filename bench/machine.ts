import { execFileSync } from 'node:child_process';
import { closeSync, fdatasyncSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';

const SYNC_SAMPLES = 200;
const SYNC_BYTES = 4 * 1024;

const firstLine = (program: string, args: readonly string[]): string => {
  try {
    const text = execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    return text.trim().split('\n')[0] ?? '';
  } catch {
    return 'not installed';
  }
};

/** Median and 99th percentile of fdatasync after a 4 KiB write in the temporary directory, milliseconds. */
const diskSync = (): { p50Ms: number; p99Ms: number } => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-bench-sync-'));
  const file = openSync(join(directory, 'file'), 'w');
  const bytes = Buffer.alloc(SYNC_BYTES, 1);
  const samples: number[] = [];
  for (let i = 0; i < SYNC_SAMPLES; i++) {
    writeSync(file, bytes);
    const start = performance.now();
    fdatasyncSync(file);
    samples.push(performance.now() - start);
  }
  closeSync(file);
  rmSync(directory, { recursive: true });
  samples.sort((a, b) => a - b);
  return {
    p50Ms: samples[Math.floor(SYNC_SAMPLES * 0.5)] ?? Number.NaN,
    p99Ms: samples[Math.floor(SYNC_SAMPLES * 0.99)] ?? Number.NaN,
  };
};

/** What the numbers were measured on. */
export const describeMachine = (): Record<string, string | number> => {
  const sync = diskSync();
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memory_gib: Math.round(totalmem() / 1024 ** 3),
    kernel: release(),
    load_1m_at_start: Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]),
    node: process.versions.node,
    openssl: process.versions.openssl,
    ssh: firstLine('sh', ['-c', 'ssh -V 2>&1']),
    sallyport: firstLine('git', ['describe', '--always', '--dirty']),
    fdatasync_p50_ms: Number(sync.p50Ms.toFixed(2)),
    fdatasync_p99_ms: Number(sync.p99Ms.toFixed(2)),
  };
};
