import { accessSync, constants, existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { foreignCodeOf, type HostPort, messageOf, parseHostPort, reasonOf } from '../../runtime/index.ts';
import { headFileOf } from '../../audit/index.ts';
import { readinessOf } from '../up/readiness.ts';
import { type Check, checkOf } from './line.ts';

const MIB = 1024 * 1024;
/** Below this a spool fills within minutes of a busy agent without its database. */
export const LITTLE_SPACE_BYTES = 256 * MIB;
/** Below this the next segment may not fit. */
export const NO_SPACE_BYTES = 32 * MIB;
const FOREIGN_RIGHTS = 0o077;

const mib = (bytes: number): string => `${String(Math.round(bytes / MIB))} MiB`;

/** The nearest directory that is there. */
const standing = (path: string): string => (existsSync(path) ? path : standing(dirname(path)));

/** A directory that a process writes: rights, owner, room. */
export const directoryCheck = (check: string, path: string): Check =>
  checkOf(check, path, (lines) => {
    const there = standing(path);
    const { bavail, bsize } = statfsSync(there);
    const free = bavail * bsize;
    if (there !== path) {
      try {
        accessSync(there, constants.W_OK | constants.X_OK);
      } catch (thrown) {
        lines.fail(
          `it is not there, and cannot be made in ${there}: ${reasonOf(thrown)}`,
          `make it, for the user of the process alone: install -d -m 700 ${path}`,
        );
        return;
      }
    } else {
      const { mode, uid } = statSync(path);
      const own = process.getuid?.() ?? uid;
      if (uid !== own && own !== 0) {
        lines.fail(
          `it belongs to user ${String(uid)}, and this is user ${String(own)}`,
          'run doctor as the user of the process; if this is that user, chown the directory to it',
        );
        return;
      }
      if ((mode & FOREIGN_RIGHTS) !== 0)
        lines.warn(
          `mode ${(mode & 0o777).toString(8)}: others of this host can look into it`,
          `chmod 700 ${path}`,
        );
      try {
        accessSync(path, constants.W_OK | constants.X_OK);
      } catch (thrown) {
        lines.fail(
          `it cannot be written: ${reasonOf(thrown)}`,
          `chown ${path} to the user of the process, or mount it for writing`,
        );
        return;
      }
    }
    const room = `${mib(free)} free${there === path ? '' : ', made at the first start'}`;
    if (free < NO_SPACE_BYTES)
      lines.fail(
        room,
        `make room: below ${mib(NO_SPACE_BYTES)} nothing is admitted, because nothing can be recorded`,
      );
    else if (free < LITTLE_SPACE_BYTES)
      lines.warn(
        room,
        `make room: ${mib(LITTLE_SPACE_BYTES)} should be free for an outage of the audit database`,
      );
    else lines.pass(room);
  });

/** What waits in the spool. */
export const spoolCheck = (spoolDir: string): Check =>
  checkOf('spool', spoolDir, (lines) => {
    if (!existsSync(headFileOf(spoolDir))) {
      lines.pass('empty: nothing was recorded yet');
      return;
    }
    let head: { batch?: number; chain?: string; acknowledged?: { batch?: number; chain?: string } | null };
    try {
      head = JSON.parse(readFileSync(headFileOf(spoolDir), 'utf8')) as typeof head;
    } catch (thrown) {
      lines.fail(
        `its head cannot be read: ${messageOf(thrown)}`,
        'see "the spool" in docs/operations.md before anything is deleted',
      );
      return;
    }
    const bytes = readdirSync(spoolDir).reduce(
      (sum, name) => sum + (statSync(join(spoolDir, name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
    const { batch = 0, chain, acknowledged } = head;
    const size = mib(bytes);
    if (acknowledged?.chain === chain)
      lines.pass(
        `${size}; the database has ${String(acknowledged?.batch ?? 0)} of ${String(batch)} batches of the chain`,
      );
    else
      lines.warn(
        `${size}; the database has nothing of the chain that is written`,
        'see the line of the audit database; a process that has just started needs a moment',
      );
  });

/** Settings of the kernel that matter over long distances; Node cannot set them. */
export const kernelCheck = (): Check =>
  checkOf('kernel', 'tcp', (lines) => {
    const read = (name: string): string | undefined => {
      try {
        return readFileSync(`/proc/sys/net/ipv4/${name}`, 'utf8').trim();
      } catch {
        return undefined;
      }
    };
    const control = read('tcp_congestion_control');
    if (control === undefined) {
      lines.skip('not told by this system');
      return;
    }
    const text = `congestion control ${control}, tcp_notsent_lowat ${read('tcp_notsent_lowat') ?? 'unknown'}`;
    lines.pass(
      control === 'bbr'
        ? text
        : `${text}; over long distances bbr carries more (sysctl net.ipv4.tcp_congestion_control=bbr)`,
    );
  });

/** What the process of this configuration says of itself, if it runs. */
export const processCheck = (kind: string, statusUrl: string): Check =>
  checkOf('process', kind, async (lines) => {
    const { ready, reasons } = await readinessOf(statusUrl);
    if (ready) {
      lines.pass(`it runs and is ready (${statusUrl}/readyz)`);
      return;
    }
    if (reasons.some((reason) => /ECONNREFUSED|EADDRNOTAVAIL/.test(reason))) {
      lines.skip(`it does not run: nobody listens at ${statusUrl}`);
      return;
    }
    lines.fail(
      `not ready: ${reasons.join('; ')}`,
      'the other lines say more; `sallyport why CONNECTION` has the last failure',
    );
  });

/** Whether an address can be listened at, or the own process has it. */
export const listenerCheck = (subject: string, listen: string, isRunning: () => Promise<boolean>): Check =>
  checkOf('listener', subject, async (lines) => {
    let address: HostPort;
    try {
      address = parseHostPort(listen);
    } catch (thrown) {
      lines.fail(messageOf(thrown), 'write ADDR:PORT');
      return;
    }
    if (await isRunning()) {
      lines.pass(`${listen}, held by the running process`);
      return;
    }
    const { createServer } = await import('node:net');
    const server = createServer();
    const problem = await new Promise<unknown>((resolve) => {
      server.once('error', resolve);
      server.listen({ host: address.host, port: address.port, exclusive: true }, () => resolve(undefined));
    });
    server.close();
    if (problem === undefined) lines.pass(`${listen} is free`);
    else if (foreignCodeOf(problem) === 'EADDRINUSE')
      lines.fail(
        `${listen} is taken by another process`,
        `find it: ss -ltnp 'sport = :${String(address.port)}'; stop it or change listen`,
      );
    else
      lines.fail(
        `${listen}: ${messageOf(problem)}`,
        'use an address of this host, and a port that its user may open',
      );
  });
