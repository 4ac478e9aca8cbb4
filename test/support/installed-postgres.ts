import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';

const ACCOUNT = 'postgres';

/** PostgreSQL does not run as root: as the account of the Debian package then. */
const identityOf = (): { uid: number; gid: number } | undefined => {
  if (userInfo().uid !== 0) return undefined;
  const id = (kind: string): number => Number(execFileSync('id', [kind, ACCOUNT], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
};

export interface InstalledOptions {
  /** Empty. */
  readonly databaseDir: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly initdbFlags: readonly string[];
  readonly postgresFlags: readonly string[];
  onLog(message: string): void;
}

/** A server of a PostgreSQL that is installed, as Debian's packages have it, by the folder of its programs. */
export class InstalledPostgres {
  readonly #programs: string;
  readonly #o: InstalledOptions;
  readonly #identity = identityOf();
  #process: ChildProcess | undefined;

  constructor(programs: string, options: InstalledOptions) {
    this.#programs = programs;
    this.#o = options;
  }

  /** Makes the data directory. */
  async initialise(): Promise<void> {
    const { databaseDir, user, password, initdbFlags } = this.#o;
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-pw-'));
    const passwordFile = join(folder, 'password');
    try {
      writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
      for (const path of [databaseDir, folder, passwordFile])
        if (this.#identity !== undefined) chownSync(path, this.#identity.uid, this.#identity.gid);
      const made = this.#run('initdb', [
        ...[
          `--pgdata=${databaseDir}`,
          `--username=${user}`,
          `--pwfile=${passwordFile}`,
          '--auth=scram-sha-256',
        ],
        ...initdbFlags,
      ]);
      const [code] = (await once(made, 'exit')) as [number | null];
      if (code !== 0) throw new Error(`initdb ended with ${code}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** Resolves when it takes connections. */
  async start(): Promise<void> {
    const { databaseDir, port, postgresFlags } = this.#o;
    const server = this.#run('postgres', ['-D', databaseDir, '-p', String(port), ...postgresFlags]);
    await new Promise<void>((resolve, reject) => {
      server.once('exit', (code) => reject(new Error(`postgres ended with ${code}`)));
      createInterface({ input: server.stderr }).on('line', (line) => {
        if (line.includes('ready to accept connections')) resolve();
      });
    });
    this.#process = server;
  }

  /** Fast shutdown: connections are cut. */
  async stop(): Promise<void> {
    const server = this.#process;
    this.#process = undefined;
    if (server?.exitCode !== null) return;
    const ended = once(server, 'exit');
    server.kill('SIGINT');
    await ended;
  }

  getPgClient(database: string, host: string): pg.Client {
    const { port, user, password } = this.#o;
    return new pg.Client({ host, port, user, password, database });
  }

  #run(program: string, args: readonly string[]) {
    const child = spawn(join(this.#programs, program), args, {
      cwd: this.#o.databaseDir,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
      ...this.#identity,
    });
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => this.#o.onLog(chunk.toString()));
    return child;
  }
}
