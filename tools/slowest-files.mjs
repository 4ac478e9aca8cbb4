// A reporter of node:test, beside the one that prints the tests: which files took longest, for whoever must keep the
// whole within its time.
import { basename, dirname, join } from 'node:path';

const SHOWN = 25;

/** Seconds by file, of top-level tests alone: those contain their subtests. */
export default async function* slowestFiles(source) {
  const seconds = new Map();
  for await (const { type, data } of source) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.nesting !== 0 || data.file === undefined)
      continue;
    const name = join(basename(dirname(data.file)), basename(data.file));
    seconds.set(name, (seconds.get(name) ?? 0) + data.details.duration_ms / 1000);
  }
  const sorted = [...seconds].sort(([, a], [, b]) => b - a).slice(0, SHOWN);
  yield `\nthe slowest files\n${sorted.map(([name, value]) => `${value.toFixed(0).padStart(6)} s  ${name}`).join('\n')}\n`;
}
