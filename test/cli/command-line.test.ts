import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createProgram } from '../../src/cli/main.ts';
import { takeLock } from '../../src/cli/up/lock.ts';

const BIN = join(import.meta.dirname, '..', '..', 'bin', 'sallyport');

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the real command line in an empty directory, without what the environment of the tests says. */
const run = (cwd: string, argv: readonly string[], flags: readonly string[] = []): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !/^SALLYPORT_|^DATABASE_URL$/.test(name)),
    );
    const child = spawn(process.execPath, [...flags, BIN, ...argv], {
      cwd,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });

const directoryOf = (t: TestContext): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-cli-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
};

const refused = (ran: Ran, code: number, message: RegExp): void => {
  assert.equal(ran.code, code, ran.stderr);
  assert.match(ran.stderr, message);
  assert.doesNotMatch(ran.stderr, /^\s+at /m, 'no stack trace');
  // What could move a cursor or turn the text round never reaches the terminal.
  assert.doesNotMatch(ran.stderr + ran.stdout, /[\u0000-\u0008\u000b-\u001f\u202e]/u);
};

test('a command is the same whatever else was loaded beside it', async () => {
  const programFor = (...argv: string[]): ReturnType<typeof createProgram> =>
    createProgram(['node', 'sallyport', ...argv]);
  const whole = await programFor('--help');
  const names = whole.commands.map((command) => command.name());
  assert.ok(names.length > 15, names.join());
  for (const name of names) {
    const alone = (await programFor('-v', name)).commands.find((command) => command.name() === name);
    const beside = whole.commands.find((command) => command.name() === name);
    assert.equal(alone?.helpInformation(), beside?.helpInformation(), name);
  }
  for (const argv of [[], ['help', 'audit'], ['polcy']]) {
    assert.equal((await programFor(...argv)).helpInformation(), whole.helpInformation(), argv.join());
  }
  const few = (await programFor('status')).commands.map((command) => command.name());
  assert.deepEqual(
    names.filter((name) => !few.includes(name)),
    ['policy', 'audit'],
  );
});

/** Tells on standard error which modules a process loads. */
const TELL_LOADS = `data:text/javascript,${encodeURIComponent(`
  import { register } from 'node:module';
  register('data:text/javascript,' + encodeURIComponent(\`
    import { writeSync } from 'node:fs';
    export const load = (url, context, next) => { writeSync(2, 'loads ' + url + '\\\\n'); return next(url, context); };
  \`));
`)}`;

test('a command that needs neither policy nor evidence nor a process loads none of them', async (t) => {
  const UNNEEDED =
    /^(agent|gateway|relay|policy\/tool|audit\/verify|cli\/audit)\/|^cli\/policy\/command\.js$/;
  const loads = async (...argv: string[]): Promise<string[]> => {
    const { code, stderr } = await run(directoryOf(t), argv, ['--import', TELL_LOADS]);
    assert.equal(code, 0, stderr);
    return [...stderr.matchAll(/^loads .*\/dist\/(.*)$/gm)].map(([, name]) => name ?? '');
  };
  const unneeded = (names: string[]): string[] => names.filter((name) => UNNEEDED.test(name));
  assert.notDeepEqual(unneeded(await loads('--help')), [], 'help loads everything');
  const ofStatus = await loads('status', '--help');
  assert.ok(ofStatus.includes('cli/status.js'), ofStatus.join());
  assert.deepEqual(unneeded(ofStatus), []);
});

test('a reader that goes away first is told by the exit code, and nothing else is said', async (t) => {
  const child = spawn(process.execPath, [BIN, 'policy', '--help'], {
    cwd: directoryOf(t),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  assert.deepEqual([code, stderr], [141, '']);
});

test('a missing directory or bundle is said to be missing, without the words of the system', async (t) => {
  const directory = directoryOf(t);
  for (const argv of [
    ['policy', 'check', 'nowhere'],
    ['policy', 'rollback', 'nowhere', '--after', 'nowhere', '-o', 'next'],
    ['policy', 'docs', 'nowhere'],
  ]) {
    const ran = await run(directory, argv);
    refused(ran, 2, /nowhere'? cannot be read( as a policy directory)?: there is none/);
    assert.doesNotMatch(ran.stderr, /ENOENT/);
  }
});

test('why --try without an `up` asks for the listener', async (t) => {
  const admin = ['--admin', 'http://127.0.0.1:1', '--token-file', 'token'];
  const directory = directoryOf(t);
  writeFileSync(join(directory, 'token'), 'x'.repeat(40));
  refused(await run(directory, ['why', 'orders', '--try', ...admin]), 2, /give --listener HOST:PORT/);
});

test('help names every command and where errors are explained', async (t) => {
  const { code, stdout } = await run(directoryOf(t), ['--help']);
  assert.equal(code, 0);
  for (const name of [
    'up',
    'init',
    'migrate',
    'relay',
    'agent',
    'gateway',
    'check',
    'status',
    'why',
    'key',
  ]) {
    assert.match(stdout, new RegExp(`^  ${name}\\b`, 'm'));
  }
  assert.match(stdout, /Exit codes/);
});

test('bad usage is 2 and says what would be right', async (t) => {
  const directory = directoryOf(t);
  refused(await run(directory, ['chek']), 2, /unknown command 'chek'[\s\S]*Did you mean check/);
  refused(await run(directory, ['check']), 2, /required option/);
  refused(await run(directory, ['up', '--publish', 'x']), 2, /write NAME=HOST:PORT/);
  refused(
    await run(directory, ['up', '--publish', 'a=b:1', '--listen', 'c=127.0.0.1:1']),
    2,
    /not published/,
  );
  refused(await run(directory, ['up', '--policy', 'a', '--bundle', 'b']), 2, /exclude each other/);
  refused(await run(directory, ['up', '--database', 'secret-text']), 2, /not a URL of the form postgres/);
  refused(await run(directory, ['migrate']), 2, /which database/);
  refused(await run(directory, ['init', 'd', '--publish', 'a=b:1']), 2, /needs a PostgreSQL/);
});

test('a configuration: malformed, missing, wrong, each in the form editors jump to', async (t) => {
  const directory = directoryOf(t);
  refused(await run(directory, ['gateway', '-c', 'none.yaml']), 2, /none\.yaml: there is no such file/);
  writeFileSync(join(directory, 'bad.yaml'), 'namespace: [a\nname: }');
  refused(await run(directory, ['gateway', '-c', 'bad.yaml']), 2, /bad\.yaml:\d+:\d+: /);
  writeFileSync(join(directory, 'g.yaml'), 'namespace: n\nnam: x\n"\\u202e\\u0001": 1\n');
  const checked = await run(directory, ['check', '-c', 'g.yaml', '--json']);
  refused(checked, 2, /^$/);
  const result = JSON.parse(checked.stdout) as {
    ok: boolean;
    kind: string;
    problems: { line: number; message: string }[];
  };
  assert.equal(result.ok, false);
  assert.equal(result.kind, 'gateway');
  assert.ok(result.problems.some(({ line, message }) => line === 2 && /did you mean name/.test(message)));
  refused(await run(directory, ['check', '-c', 'g.yaml']), 2, /^$/);
});

test('nothing to talk to is 3, with the remedy', async (t) => {
  const directory = directoryOf(t);
  writeFileSync(join(directory, 'token'), 't_0123456789abcdef.x');
  const admin = ['--admin', 'http://127.0.0.1:1', '--token-file', 'token'];
  refused(await run(directory, ['status', ...admin]), 3, /does not answer/);
  const json = await run(directory, ['why', 'orders', '--json', ...admin]);
  refused(json, 3, /ERR_MANAGE_UNAVAILABLE/);
  assert.equal((JSON.parse(json.stderr) as { error: { code: string } }).error.code, 'ERR_MANAGE_UNAVAILABLE');
  refused(
    await run(directory, ['migrate', '--database', 'postgres://u:p@127.0.0.1:1/x']),
    3,
    /127\.0\.0\.1:1|out of reach/,
  );
});

test('poison text in a name is refused and shown escaped, a token is not shown at all', async (t) => {
  const directory = directoryOf(t);
  refused(await run(directory, ['why', 'a\u202e\u0007b']), 2, /not the name of a connection/);
  writeFileSync(join(directory, 'token'), 'hunter2\nhunter2');
  const ran = await run(directory, ['status', '--admin', 'http://127.0.0.1:1', '--token-file', 'token']);
  refused(ran, 2, /has not the form/);
  assert.doesNotMatch(ran.stderr, /hunter2/);
});

test('state: unreadable is named, taken is refused with its pid', async (t) => {
  const directory = directoryOf(t);
  writeFileSync(join(directory, 'file'), '');
  refused(await run(directory, ['up', '--state', 'file']), 2, /cannot use .*file: /);
  const release = takeLock(directory);
  t.after(release);
  refused(await run(directory, ['up', '--state', '.']), 2, new RegExp(`process ${process.pid}\\)`));
  release();
  writeFileSync(join(directory, 'state.json'), '{"passwords": "hunter2');
  const ran = await run(directory, ['up', '--state', '.']);
  refused(ran, 2, /state\.json: it is not JSON/);
  assert.doesNotMatch(ran.stderr, /hunter2/);
});
