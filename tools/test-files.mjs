// A reporter of node:test, beside the one that prints the tests: which files took longest, for whoever must keep the
// whole within its time, and which ran no test at all, which is a failure.
import { basename, dirname, join } from 'node:path';

const SHOWN = 25;

/** Of top-level tests alone: those contain their subtests. A file without a test is told by node:test as a test of its name. */
export default async function* testFiles(source) {
  const seconds = new Map();
  const empty = [];
  for await (const { type, data } of source) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.nesting !== 0 || data.file === undefined)
      continue;
    if (type === 'test:pass' && data.name === data.file) empty.push(data.file);
    const name = join(basename(dirname(data.file)), basename(data.file));
    seconds.set(name, (seconds.get(name) ?? 0) + data.details.duration_ms / 1000);
  }
  const sorted = [...seconds].sort(([, a], [, b]) => b - a).slice(0, SHOWN);
  yield `\nthe slowest files\n${sorted.map(([name, value]) => `${value.toFixed(0).padStart(6)} s  ${name}`).join('\n')}\n`;
  if (empty.length === 0) return;
  process.exitCode = 1;
  yield `\n✖ files that ended without having run a test\n${empty.map((file) => `  ${file}`).join('\n')}\n`;
}
