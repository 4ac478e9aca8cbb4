import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';

const SCRIPT = `
import { runUntilSignal, silentLogger, systemClock, exitProcess } from './dist/runtime/index.js';
const slow = process.argv[1] === 'slow';
const keep = setInterval(() => undefined, 60_000);
const running = runUntilSignal({
  clock: systemClock, logger: silentLogger, deadlineMs: slow ? 50 : 60_000, stopWithStdin: true,
  onReload: () => console.log('reload'),
  onStop: async (cause) => {
    console.log('stop ' + cause);
    if (slow) await new Promise(() => undefined);
    if (process.argv[1] === 'fail') throw new Error('cannot');
    clearInterval(keep);
  },
});
console.log('ready');
exitProcess(await running);
`;

const start = async (
  t: TestContext,
  mode: string,
): Promise<{ child: ChildProcess; lines: () => Promise<string>; ended: Promise<unknown[]> }> => {
  const child = spawn(process.execPath, ['--input-type=module', '-e', SCRIPT, mode], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const ended = once(child, 'exit');
  const text: string[] = [];
  child.stdout.setEncoding('utf8');
  const first = once(child.stdout, 'data').then(([chunk]) => text.push(chunk as string));
  await first;
  child.stdout.on('data', (chunk: string) => text.push(chunk));
  return {
    child,
    ended,
    async lines() {
      await ended;
      return text.join('');
    },
  };
};

test('SIGTERM stops once and exits 0', async (t) => {
  const { child, lines, ended } = await start(t, 'plain');
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  assert.equal(await lines(), 'ready\nstop SIGTERM\n');
});

test('a parent that is gone stops it, however the parent went', async (t) => {
  const { child, lines, ended } = await start(t, 'plain');
  child.stdin?.end();
  assert.deepEqual(await ended, [0, null]);
  assert.equal(await lines(), 'ready\nstop parent\n');
});

test('with stopWithParent, a parent that was killed stops it, though nothing was held open', async (t) => {
  const inner = SCRIPT.replace('stopWithStdin', 'stopWithParent');
  const outer = `
import { spawn } from 'node:child_process';
const child = spawn(process.execPath, ['--input-type=module', '-e', ${JSON.stringify(inner)}, 'plain'], { stdio: ['ignore', 'inherit', 'inherit'] });
setInterval(() => undefined, 60_000);
process.stdout.write(child.pid + '\\n');`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', outer.replaceAll('\\\\n', '\\n')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => parent.kill('SIGKILL'));
  parent.stdout.setEncoding('utf8');
  let text = '';
  for await (const chunk of parent.stdout) {
    const wasReady = text.includes('ready');
    text += String(chunk);
    if (!wasReady && text.includes('ready')) parent.kill('SIGKILL');
  }
  assert.match(text, /stop parent/);
});

test('what does not stop by the deadline is ended with 1', async (t) => {
  const { child, ended } = await start(t, 'slow');
  child.kill('SIGINT');
  assert.deepEqual(await ended, [1, null]);
});

test('a stop that fails exits 1', async (t) => {
  const { child, ended } = await start(t, 'fail');
  child.kill('SIGINT');
  assert.deepEqual(await ended, [1, null]);
});

test('SIGHUP reloads and keeps running', async (t) => {
  const { child, lines, ended } = await start(t, 'plain');
  child.kill('SIGHUP');
  assert.ok(child.stdout);
  await once(child.stdout, 'data');
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  assert.match(await lines(), /reload/);
});
