import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../test/support/free-port.ts';
import { endProcess } from '../load/child.ts';
import type { Tunnel, TunnelKind } from './tunnel.ts';

const SSHD = '/usr/sbin/sshd';
const SSH = '/usr/bin/ssh';
const CIPHER = 'aes128-gcm@openssh.com';
const START_DEADLINE_MS = 20_000;
const PROBE_MS = 50;

const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });

/** ssh tells nobody when a forwarding is up, so the port is tried until it answers. */
const untilListening = async (port: number, child: ChildProcess, log: () => string): Promise<void> => {
  const deadline = performance.now() + START_DEADLINE_MS;
  while (!(await listens(port))) {
    if (child.exitCode !== null) throw new Error(`ssh ended with ${child.exitCode}:\n${log()}`);
    if (performance.now() > deadline) throw new Error(`nothing listens on ${port}:\n${log()}`);
    await new Promise((resolve) => setTimeout(resolve, PROBE_MS));
  }
};

class SshBench {
  readonly #directory = mkdtempSync(join(tmpdir(), 'sallyport-bench-ssh-'));
  readonly #children: ChildProcess[] = [];
  #log = '';
  #port = 0;

  /** With as many descriptors as the machine allows, which Node takes for itself too. */
  #run(program: string, args: readonly string[]): ChildProcess {
    const command = ['-c', 'ulimit -n "$(ulimit -Hn)"; exec "$0" "$@"', program, ...args];
    const child = spawn('/bin/sh', command, { stdio: ['pipe', 'ignore', 'pipe'] });
    child.stderr.on('data', (chunk: Buffer) => (this.#log = (this.#log + chunk.toString()).slice(-8_192)));
    this.#children.push(child);
    return child;
  }

  #file(name: string): string {
    return join(this.#directory, name);
  }

  async startServer(): Promise<number> {
    for (const name of ['host_key', 'user_key']) {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', this.#file(name)]);
    }
    execFileSync('cp', [this.#file('user_key.pub'), this.#file('authorized_keys')]);
    if (userInfo().uid === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    this.#port = await freePort();
    writeFileSync(
      this.#file('sshd_config'),
      [
        `Port ${this.#port}`,
        'ListenAddress 127.0.0.1',
        `HostKey ${this.#file('host_key')}`,
        `AuthorizedKeysFile ${this.#file('authorized_keys')}`,
        `PidFile ${this.#file('sshd.pid')}`,
        'UsePAM no',
        'StrictModes no',
        'PasswordAuthentication no',
        'PermitRootLogin prohibit-password',
        'AllowTcpForwarding yes',
        'MaxSessions 1000',
        `Ciphers ${CIPHER}`,
        '',
      ].join('\n'),
    );
    const sshd = this.#run(SSHD, ['-D', '-e', '-f', this.#file('sshd_config')]);
    await untilListening(this.#port, sshd, () => this.#log);
    return sshd.pid ?? 0;
  }

  /**
   * One ssh with a forwarding; resolves when its port listens. It runs `cat` rather than `-N`, because sshd
   * sets TCP_NODELAY only for a connection that has a session (40 ms on every small answer without it).
   */
  async forward(flag: '-L' | '-R', listenPort: number, toPort: number): Promise<number> {
    const child = this.#run(SSH, [
      '-T',
      '-F',
      'none',
      '-i',
      this.#file('user_key'),
      '-p',
      String(this.#port),
      '-o',
      'StrictHostKeyChecking=no',
      '-o',
      `UserKnownHostsFile=${this.#file('known_hosts')}`,
      '-o',
      'ExitOnForwardFailure=yes',
      '-o',
      'LogLevel=ERROR',
      '-c',
      CIPHER,
      flag,
      `127.0.0.1:${listenPort}:127.0.0.1:${toPort}`,
      `${userInfo().username}@127.0.0.1`,
      'cat',
    ]);
    await untilListening(listenPort, child, () => this.#log);
    return child.pid ?? 0;
  }

  async close(): Promise<void> {
    for (const child of this.#children.reverse()) await endProcess(child);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const missing = (): string | undefined =>
  [SSHD, SSH].every((program) => existsSync(program))
    ? undefined
    : 'install openssh-server and openssh-client';

const opening = async (build: (bench: SshBench) => Promise<Omit<Tunnel, 'close'>>): Promise<Tunnel> => {
  const bench = new SshBench();
  try {
    return { ...(await build(bench)), close: () => bench.close() };
  } catch (error) {
    await bench.close();
    throw error;
  }
};

/** Two processes, one encrypted leg: `ssh -R` from the private side, applications connect to sshd. */
export const sshReverse: TunnelKind = {
  name: 'ssh -R',
  unavailable: missing,
  open: (targetPort) =>
    opening(async (bench) => {
      const relay = await bench.startServer();
      const port = await freePort();
      const agent = await bench.forward('-R', port, targetPort);
      return { port, processes: { relay, agent } };
    }),
};

/** Three processes, two encrypted legs: our topology with OpenSSH. */
export const sshBoth: TunnelKind = {
  name: 'ssh -L + -R',
  unavailable: missing,
  open: (targetPort) =>
    opening(async (bench) => {
      const relay = await bench.startServer();
      const inner = await freePort();
      const agent = await bench.forward('-R', inner, targetPort);
      const port = await freePort();
      const gateway = await bench.forward('-L', port, inner);
      return { port, processes: { relay, agent, gateway } };
    }),
};
