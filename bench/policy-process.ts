// Cost of a policy decision through the engine pool, beside OPA's own server over the same policy and inputs:
//   node --import tsx bench/policy-process.ts [--rate 1000] [--seconds 4] [--only grants:10000,rules:1000]
// Every size runs in a process of its own, so that its memory is its own.
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { describeMachine } from './machine.ts';
import { measureSize, type SizeResult } from './policy/size.ts';

const SELF = fileURLToPath(import.meta.url);
const SIZES = ['grants:100', 'grants:10000', 'grants:100000', 'rules:10', 'rules:1000', 'rules:5000'];

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '4' },
    only: { type: 'string', default: SIZES.join(',') },
    size: { type: 'string' },
  },
});

/** One size in a process of its own. */
const measureApart = (size: string): Promise<SizeResult> =>
  new Promise((resolve, reject) => {
    const args = [SELF, '--size', size, '--rate', values.rate, '--seconds', values.seconds];
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), ...args], {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    let out = '';
    child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.once('close', (code) => {
      if (code === 0) resolve(JSON.parse(out) as SizeResult);
      else reject(new Error(`${size} ended with ${String(code)}`));
    });
  });

/** How a cost grows with the size, from the smallest to the largest: 0 not at all, 1 in step. */
const exponentOf = (some: readonly SizeResult[], of: (result: SizeResult) => number): string => {
  const first = some[0];
  const last = some.at(-1);
  if (first === undefined || last === undefined || first === last) return '';
  return (Math.log(of(last) / of(first)) / Math.log(last.count / first.count)).toFixed(2);
};

const row = (cells: readonly (string | number)[]): void => console.log(`| ${cells.join(' | ')} |`);

const print = (results: readonly SizeResult[]): void => {
  const head = [
    ...['size', 'pool p50 µs', 'p99 µs', 'OPA p50 µs', 'p99 µs', 'pool / OPA p50', 'p99'],
    ...['engine p50 µs', 'overloads', 'activation ms', 'OPA ready ms', 'memory MiB', 'OPA memory MiB'],
  ];
  row(head);
  row(head.map(() => '---'));
  for (const {
    kind,
    count,
    pool,
    opa,
    engineP50Us,
    overloads,
    activationMs,
    opaReadyMs,
    ...rest
  } of results) {
    row([
      `${count.toLocaleString('en-US')} ${kind}`,
      ...[pool.p50Us, pool.p99Us, opa.p50Us, opa.p99Us],
      (pool.p50Us / opa.p50Us).toFixed(2),
      (pool.p99Us / opa.p99Us).toFixed(2),
      ...[engineP50Us, overloads, activationMs, opaReadyMs, rest.memoryMib, rest.opaMemoryMib],
    ]);
  }
  for (const kind of ['grants', 'rules']) {
    const some = results.filter((result) => result.kind === kind);
    const growth = {
      p50: exponentOf(some, ({ pool }) => pool.p50Us),
      activation: exponentOf(some, ({ activationMs }) => activationMs),
      memory: exponentOf(some, ({ memoryMib }) => memoryMib),
    };
    if (growth.p50 !== '') console.log(`growth exponent over ${kind}: ${JSON.stringify(growth)}`);
  }
};

if (values.size === undefined) {
  console.log(JSON.stringify(describeMachine()));
  const results: SizeResult[] = [];
  for (const size of values.only.split(',')) {
    results.push(await measureApart(size));
    console.error(JSON.stringify(results.at(-1)));
  }
  print(results);
} else {
  // It ends with the process that asked for it.
  process.once('disconnect', () => process.exit(1));
  const [kind = '', count = ''] = values.size.split(':');
  if (kind !== 'grants' && kind !== 'rules')
    throw new Error(`${values.size} is neither grants:N nor rules:N`);
  const options = { kind, count: Number(count), perSecond: Number(values.rate) } as const;
  console.log(JSON.stringify(await measureSize({ ...options, seconds: Number(values.seconds) })));
  process.removeAllListeners('disconnect');
  process.disconnect();
}
