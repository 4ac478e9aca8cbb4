/**
 * Whether connections survive being idle: real clients and servers, through real processes, in real time.
 *
 *     node --import tsx bench/idle-process.ts [--minutes 30]
 *
 * psql, an interactive ssh, a plain TCP connection and one whose application has ended its side say something through the
 * tunnel, are silent for so many minutes, and say something again: it has to be the same session that answers. One line of
 * JSON for each, one for the trail. Ends with 1 when a connection did not survive or the trail says otherwise.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '../src/runtime/index.ts';
import { findProgram, missingPrograms } from '../test/support/command.ts';
import { eventually } from '../test/support/eventually.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { startSshd } from '../test/support/services.ts';
import { dial, listen } from '../test/support/sockets.ts';
import { startUp } from '../test/support/up.ts';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' } } });
const MINUTES = Number(values.minutes);
const MAX_MINUTES = 24 * 60;
if (!(MINUTES > 0 && MINUTES <= MAX_MINUTES))
  throw new Error(`--minutes ${values.minutes}: more than 0, at most ${MAX_MINUTES}`);
const MINUTE_MS = 60_000;

/** A connection that is held: each call says something and returns the answer, which tells the session. */
interface Held {
  readonly name: string;
  readonly say: () => Promise<string>;
}

/** Waits for a line of a stream that matches. */
const answerOf = async (heard: () => string, pattern: RegExp): Promise<string> =>
  eventually(`an answer like ${String(pattern)}`, () => pattern.exec(heard())?.[1]);

/** A program that is spoken to by its standard input. */
const holdProgram = (
  closing: ChildProcess[],
  name: string,
  program: string,
  args: readonly string[],
  ask: (turn: number) => string,
): Held => {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  closing.push(child);
  let heard = '';
  child.stdout.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  child.stdin.on('error', () => undefined);
  let turn = 0;
  const say = async (): Promise<string> => {
    turn += 1;
    if (child.exitCode !== null) throw new Error(`${name} has ended with ${child.exitCode}`);
    child.stdin.write(`${ask(turn)}\n`);
    return answerOf(() => heard, new RegExp(`^turn ${turn} of (.+)$`, 'm'));
  };
  return { name, say };
};

const run = async (): Promise<boolean> => {
  const missing = missingPrograms({
    psql: 'postgresql-client',
    ssh: 'openssh-client',
    sshd: 'openssh-server',
  });
  if (missing !== false) throw new Error(missing);
  const closers: (() => unknown)[] = [];
  const t = { after: (call: () => unknown): void => void closers.unshift(call) };
  const children: ChildProcess[] = [];
  t.after(async () => {
    for (const child of children) {
      if (child.exitCode !== null) continue;
      child.kill();
      await once(child, 'exit');
    }
  });
  try {
    const postgres = await startPostgres();
    t.after(() => postgres.stop());
    const sshd = await startSshd(t);
    let accepted = 0;
    const plain = await listen(t, (socket) => {
      accepted += 1;
      const number = accepted;
      socket.on('data', (chunk: Buffer) =>
        socket.write(`${chunk.toString().trim()} of connection ${number}\n`),
      );
    });
    const half = await listen(t, (socket) => socket.resume());
    const up = await startUp(t, {
      publish: {
        database: `127.0.0.1:${postgres.port}`,
        shell: `127.0.0.1:${sshd.port}`,
        plain: `127.0.0.1:${plain.port}`,
        half: `127.0.0.1:${half.port}`,
      },
    });
    const portOf = (name: string): string => up.listenOf(name).split(':').at(-1) ?? '';

    const url = new URL(postgres.url);
    url.port = portOf('database');
    const psql = holdProgram(children, 'psql', findProgram('psql') ?? '', [url.href, '-XAtq'], (turn) => {
      return `select 'turn ${turn} of backend ' || pg_backend_pid();`;
    });
    const known = join(up.stateDirectory, 'known_hosts');
    writeFileSync(known, `[127.0.0.1]:${portOf('shell')} ${sshd.hostKey}\n`);
    const options = ['BatchMode=yes', 'StrictHostKeyChecking=yes', `UserKnownHostsFile=${known}`];
    const where = ['-T', '-i', sshd.keyFile, '-p', portOf('shell'), `${sshd.user}@127.0.0.1`];
    const ssh = holdProgram(
      children,
      'ssh',
      findProgram('ssh') ?? '',
      ['-F', 'none', ...options.flatMap((option) => ['-o', option]), ...where, 'sh'],
      (turn) => `echo turn ${turn} of shell $$`,
    );
    const holdTcp = (): Held => {
      const socket = dial(t, up.listenOf('plain'));
      socket.on('error', () => undefined);
      let heard = '';
      let turn = 0;
      socket.on('data', (chunk: Buffer) => (heard += chunk.toString()));
      const say = async (): Promise<string> => {
        turn += 1;
        socket.write(`turn ${turn}\n`);
        return answerOf(() => heard, new RegExp(`^turn ${turn} of (.+)$`, 'm'));
      };
      return { name: 'TCP', say };
    };
    const holdHalf = async (): Promise<Held> => {
      const socket = dial(t, up.listenOf('half'));
      socket.on('error', () => undefined);
      let heard = '';
      socket.on('data', (chunk: Buffer) => (heard += chunk.toString()));
      socket.end('all that I have to say');
      const server = await eventually('the other side of TCP half-closed', () => half.sockets[0]);
      await eventually('its end arrives', () => (server.readableEnded ? true : undefined));
      let turn = 0;
      const say = async (): Promise<string> => {
        turn += 1;
        server.write(`turn ${turn} of port ${server.remotePort}\n`);
        return answerOf(() => heard, new RegExp(`^turn ${turn} of (.+)$`, 'm'));
      };
      return { name: 'TCP, half closed', say };
    };
    const held = [psql, ssh, holdTcp(), await holdHalf()];

    const before: string[] = [];
    for (const { say } of held) before.push(await say());
    const linksSql = `select count(*)::int as links from audit.event where type = 'link.opened'`;
    const streams = `select stream_id, connection, closed_at from audit.streams`;
    const links = await up.rows<{ links: number }>(linksSql);
    const startedMs = performance.now();
    await new Promise((resolve) => setTimeout(resolve, MINUTES * MINUTE_MS));
    const idleSeconds = Math.round((performance.now() - startedMs) / 1_000);

    let isAll = true;
    for (const [index, { name, say }] of held.entries()) {
      const after = await say().catch((error: unknown) => `nobody: ${messageOf(error)}`);
      const survived = after === before[index];
      isAll &&= survived;
      const line = { connection: name, idle_seconds: idleSeconds, survived, before: before[index], after };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    }
    const rows = await eventually('every stream is in the trail', async () => {
      const found = await up.rows<{ closed_at: string | null }>(streams);
      return found.length >= held.length ? found : undefined;
    });
    const ended = rows.filter(({ closed_at }) => closed_at !== null).length;
    const opened = (await up.rows<{ links: number }>(linksSql))[0]?.links;
    const trail = {
      streams: rows.length,
      ended,
      links_before: links[0]?.links,
      links_after: opened,
    };
    process.stdout.write(`${JSON.stringify(trail)}\n`);
    return isAll && ended === 0 && rows.length === held.length;
  } finally {
    for (const close of closers) await close();
  }
};

process.exitCode = (await run()) ? 0 : 1;
