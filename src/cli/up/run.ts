import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  AppError,
  type Clock,
  formatHostPort,
  type HostPort,
  messageOf,
  writeFileAtomically,
} from '../../runtime/index.ts';
import { ensureReaderRole } from '../../audit/index.ts';
import { loginsOf, prepareDatabase, READER_ROLE, requireUnusedDatabase } from '../deploy/database.ts';
import { ensureAuthority, ensureKeyring, ensureServerCertificate, ensureTrust } from '../deploy/material.ts';
import { provision } from '../deploy/provision.ts';
import type { Publication } from '../deploy/publication.ts';
import type { Installation } from '../deploy/settings.ts';
import type { Output } from '../output.ts';
import type { ReadyFile } from '../ready-file.ts';
import { type Child, startChild } from './child.ts';
import {
  type InstallationParts,
  nodeOf,
  readyFileOf,
  UP,
  upInstallation,
  writeUpSettings,
} from './installation.ts';
import { endLeftovers } from './leftovers.ts';
import { takeLock } from './lock.ts';
import {
  AUDIT_CONNECTION,
  FORBIDDEN_CONNECTION,
  FORBIDDEN_TARGET,
  requireDatabaseUrl,
  type UpOptions,
} from './options.ts';
import { openPolicySource, type PolicySource } from './policy-source.ts';
import { choosePort } from './port.ts';
import {
  chooseDataDirectory,
  type EmbeddedPostgres,
  startEmbeddedPostgres,
  stopLeftoverPostgres,
} from './postgres.ts';
import { identityOf, type ProcessIdentity } from './process-identity.ts';
import { waitUntilReady } from './readiness.ts';
import {
  openStateDirectory,
  passwordOf,
  readState,
  type StatePaths,
  type UpState,
  writeState,
} from './state.ts';

const READY_DEADLINE_MS = 30_000;
const CHILD_STOP_MS = 2_800;
const DEFAULT_POSTGRES_PORT = 5432;
const MAX_DATABASE_DEATHS = 3;

const CHILD_NAMES = ['relay', 'agent', 'gateway'] as const;
type ChildName = (typeof CHILD_NAMES)[number];

export interface UpRunOptions {
  readonly options: UpOptions;
  /** Further connections for this start only. */
  readonly extra: readonly Publication[];
  readonly output: Output;
  readonly clock: Clock;
}

/** One `up`: everything it starts, in order, and stops, in the other order. */
export class UpRun {
  readonly #given: UpRunOptions;
  readonly #paths: StatePaths;
  readonly #releaseLock: () => void;
  readonly #aborted = new AbortController();
  readonly #children = new Map<ChildName, Child>();
  readonly #state: UpState;
  #postgres: EmbeddedPostgres | undefined;
  #policy: PolicySource | undefined;
  #ready: ReadyFile | undefined;
  #databaseDeaths = 0;
  readonly #startedMs: number;
  #giveUp: (error: AppError) => void = () => undefined;
  /** Rejects when something essential ends for good. */
  readonly failed: Promise<never>;

  /** Takes the state directory. @throws AppError ERR_CLI_STATE, ERR_CLI_STATE_LOCKED */
  constructor(given: UpRunOptions) {
    this.#given = given;
    this.#startedMs = given.clock.monotonicMs();
    this.#paths = openStateDirectory(given.options.stateDirectory);
    this.#releaseLock = takeLock(this.#paths.root);
    try {
      this.#state = readState(this.#paths);
      rmSync(this.#paths.readyFile, { force: true });
    } catch (error) {
      this.#releaseLock();
      throw error;
    }
    this.failed = new Promise((_, reject) => {
      this.#giveUp = reject;
    });
    this.failed.catch(() => undefined);
  }

  /** Starts everything; resolves once a stream would work. */
  async start(): Promise<ReadyFile> {
    const { output, clock } = this.#given;
    await endLeftovers(this.#state.processes, clock, (text) => output.note(text));
    const left = this.#state.database_directory;
    if (left !== undefined) await stopLeftoverPostgres(left, clock);
    const [databaseUrl, certificates] = await Promise.all([this.#openDatabase(), this.#certificates()]);
    this.#step('preparing the database');
    const { roles, reader } = await this.#prepareDatabase(databaseUrl);
    const relayPort = await this.#port('relay', 'the relay');
    const publications = this.#publications(databaseUrl);
    this.#step('preparing connections and keys');
    const provisioned = await provision({
      databaseUrl,
      keyringFile: certificates.keyringFile,
      namespace: UP.host,
      node: UP.node,
      publicPort: relayPort,
      publications,
      directory: this.#paths.connectionDirectory,
      tokenFile: this.#paths.file('owner.token'),
      credential: 'token',
      clock,
    });
    this.#step('preparing the policy');
    this.#policy = await this.#openPolicy(publications);
    const parts: InstallationParts = {
      paths: this.#paths,
      databaseUrl,
      roles,
      reader,
      relayPort,
      provisioned,
      publications,
      bundleFile: this.#policy.bundleFile,
      allowAuditDatabase: this.#given.options.withExamples,
      listenOf: (name) => this.#listenOf(name),
      portOf: (key) => this.#port(key, `the ${key} listener`),
    };
    const installation = await upInstallation(parts);
    writeState(this.#paths, this.#state);
    writeUpSettings(this.#paths, installation);
    this.#step('starting relay, agent and gateway');
    await this.#startChildren(installation);
    const ready = readyFileOf(parts, installation, this.#pids());
    this.#putReady(ready);
    return ready;
  }

  get ready(): ReadyFile | undefined {
    return this.#ready;
  }

  /** Stops what was started: entrance first, database last. Idempotent. */
  async stop(): Promise<void> {
    this.#aborted.abort();
    this.#policy?.close();
    rmSync(this.#paths.readyFile, { force: true });
    if (this.#given.options.readyFile !== undefined) rmSync(this.#given.options.readyFile, { force: true });
    for (const name of ['gateway', 'agent', 'relay'] as const) {
      await this.#children.get(name)?.stop(CHILD_STOP_MS);
    }
    await this.#postgres?.stop();
    this.#releaseLock();
  }

  #step(text: string): void {
    if (this.#aborted.signal.aborted) throw new AppError('ERR_CLI_CHILD', 'stopped while starting');
    const { output, clock } = this.#given;
    output.detail(`${((clock.monotonicMs() - this.#startedMs) / 1000).toFixed(2)} s: ${text}`);
    output.progress(`${text} …`);
  }

  async #port(key: string, what: string): Promise<number> {
    const { [key]: before, ...others } = this.#state.ports;
    const { port, changed } = await choosePort(before, UP.loopback, new Set(Object.values(others)));
    if (changed) {
      this.#given.output.note(`port ${before ?? 0} of ${what} is taken now; using ${port}`);
    }
    this.#state.ports[key] = port;
    return port;
  }

  /** Logins with the passwords of the state; those of a server that is not ours are new the first time, never taken over. */
  async #prepareDatabase(databaseUrl: string): Promise<Pick<InstallationParts, 'roles' | 'reader'>> {
    const names = { nodes: [UP.node], agent: UP.agent };
    const unknown = [...loginsOf(names), READER_ROLE].filter((login) => !(login in this.#state.passwords));
    if (this.#given.options.databaseUrl !== undefined && unknown.length > 0) {
      await requireUnusedDatabase(databaseUrl, unknown, {
        data: 'give --database another one, on another server, or --state the directory of the `up` that uses it',
        logins:
          'give --database one on another server, or --state the directory of the `up` that uses it; drop the logins when ' +
          'what used them is gone',
      });
    }
    const reader = { name: READER_ROLE, password: passwordOf(this.#state, READER_ROLE) };
    for (const login of unknown) passwordOf(this.#state, login);
    // Before the logins are made: a start that ends in between knows them the next time.
    writeState(this.#paths, this.#state);
    const passwordFor = (login: string): string => passwordOf(this.#state, login);
    const roles = await prepareDatabase(databaseUrl, names, passwordFor, 'replace');
    await ensureReaderRole(databaseUrl, reader.name, reader.password);
    return { roles, reader };
  }

  async #openDatabase(): Promise<string> {
    const { databaseUrl } = this.#given.options;
    if (databaseUrl !== undefined) return databaseUrl;
    this.#step('starting PostgreSQL');
    const port = await this.#port('postgres', 'PostgreSQL');
    passwordOf(this.#state, 'sallyport');
    const directory = chooseDataDirectory(this.#paths.root, this.#state.database_directory);
    if (this.#state.database_directory === undefined && dirname(directory) !== this.#paths.root) {
      this.#given.output.note(
        `you are root, so PostgreSQL runs as user postgres, who cannot enter ${this.#paths.root}: its data is in ${directory}`,
      );
    }
    this.#state.database_directory = directory;
    writeState(this.#paths, this.#state);
    this.#postgres = await this.#startPostgres(port);
    return this.#postgres.urlOf('postgres');
  }

  #startPostgres(port: number): Promise<EmbeddedPostgres> {
    const { clock } = this.#given;
    return startEmbeddedPostgres({
      dataDirectory: chooseDataDirectory(this.#paths.root, this.#state.database_directory),
      logFile: this.#paths.log('postgres'),
      port,
      password: passwordOf(this.#state, 'sallyport'),
      clock,
      onDeath: (detail) => void this.#restartPostgres(port, detail),
    });
  }

  async #restartPostgres(port: number, detail: string): Promise<void> {
    if (this.#aborted.signal.aborted) return;
    this.#databaseDeaths += 1;
    if (this.#databaseDeaths > MAX_DATABASE_DEATHS) {
      this.#giveUp(
        new AppError('ERR_CLI_POSTGRES', `PostgreSQL died ${this.#databaseDeaths} times (${detail})`),
      );
      return;
    }
    this.#given.output.note(`PostgreSQL died (${detail}); starting it again`);
    try {
      this.#postgres = await this.#startPostgres(port);
      this.#rememberProcesses();
    } catch (error) {
      this.#giveUp(new AppError('ERR_CLI_POSTGRES', messageOf(error), { cause: error }));
    }
  }

  async #certificates(): Promise<{ keyringFile: string }> {
    const { clock } = this.#given;
    const file = (name: string): string => this.#paths.file(name);
    const authority = await ensureAuthority(
      { certFile: file('ca.pem'), keyFile: file('ca.key') },
      'Sallyport development CA',
      clock,
    );
    await ensureServerCertificate(
      { certFile: file('relay.pem'), keyFile: file('relay.key') },
      authority,
      [UP.host, UP.loopback],
      clock,
    );
    const keyringFile = file('keyring.json');
    ensureKeyring(keyringFile);
    ensureTrust(
      { rootKeyFile: file('audit-root.key'), trustFile: file('trust.json') },
      [
        { kind: 'relay', name: UP.node, keyFile: file('relay-audit.key') },
        { kind: 'agent', name: UP.agent, keyFile: file('agent-audit.key') },
      ],
      clock,
    );
    return { keyringFile };
  }

  /** Where the audit database is, as a target. */
  #publications(databaseUrl: string): Publication[] {
    const { options, extra } = this.#given;
    const url = requireDatabaseUrl(databaseUrl);
    const target: HostPort = {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? DEFAULT_POSTGRES_PORT : Number(url.port),
    };
    const examples = options.withExamples
      ? [
          { name: AUDIT_CONNECTION, target },
          { name: FORBIDDEN_CONNECTION, target: FORBIDDEN_TARGET },
        ]
      : [];
    return [...examples, ...options.publications, ...extra];
  }

  #openPolicy(publications: readonly Publication[]): Promise<PolicySource> {
    return openPolicySource({
      choice: this.#given.options.policy,
      bundleFile: this.#paths.bundleFile,
      connections: publications.map(({ name, target }) => ({ name, ...target })),
      forbidden: publications.map(({ name }) => name).filter((name) => name === FORBIDDEN_CONNECTION),
      before: this.#state.policy,
      clock: this.#given.clock,
      onBuilt: (built) => {
        this.#state.policy = built;
        writeState(this.#paths, this.#state);
      },
      note: (text) => this.#given.output.note(text),
    });
  }

  async #listenOf(name: string): Promise<HostPort> {
    const given = this.#given.options.listens.get(name);
    if (given !== undefined && given.port !== 0) return given;
    return {
      host: given?.host ?? UP.loopback,
      port: await this.#port(`connection ${name}`, `connection ${name}`),
    };
  }

  async #startChildren(installation: Installation): Promise<void> {
    const { output, clock } = this.#given;
    for (const name of CHILD_NAMES) {
      const child = startChild({
        name,
        configFile: this.#paths.config(name),
        logFile: this.#paths.log(name),
        clock,
        verbose: output.verbose,
        onRestart: (detail) => {
          output.note(`the ${name} died (${detail}); starting it again`);
          clock.after(RESTART_NOTICE_MS, () => this.#rememberProcesses());
        },
        onGivenUp: (detail) => this.#giveUp(new AppError('ERR_CLI_CHILD', detail)),
      });
      this.#children.set(name, child);
    }
    this.#rememberProcesses();
    for (const name of CHILD_NAMES) {
      const child = this.#children.get(name);
      if (child === undefined) continue;
      this.#step(`waiting for the ${name}`);
      const status = { relay: nodeOf(installation).statusListen, ...installation.statusListen };
      const url = `http://${formatHostPort(status[name])}`;
      const ready = waitUntilReady(url, READY_DEADLINE_MS, clock, this.#aborted.signal);
      const answer = await Promise.race([
        ready,
        ...[...this.#children.values()].map((one) => one.failedToStart),
      ]);
      if (!answer.ready) {
        throw new AppError(
          'ERR_CLI_CHILD',
          `the ${name} is not ready: ${answer.reasons.join('; ')}; its log is ${this.#paths.log(name)}`,
        );
      }
    }
    this.#step('done');
    for (const child of this.#children.values()) child.supervise();
  }

  /** So that the next start can wait for them, and so that the ready file names the processes that run. */
  #rememberProcesses(): void {
    if (this.#aborted.signal.aborted) return;
    const pids = [...this.#children.values()].map(({ pid }) => pid);
    this.#state.processes = pids.map(identityOf) satisfies readonly ProcessIdentity[];
    writeState(this.#paths, this.#state);
    if (this.#ready !== undefined) this.#putReady({ ...this.#ready, pids: this.#pids() });
  }

  #pids(): ReadyFile['pids'] {
    const pidOf = (name: ChildName): number => this.#children.get(name)?.pid ?? 0;
    return {
      relay: pidOf('relay'),
      agent: pidOf('agent'),
      gateway: pidOf('gateway'),
      postgres: this.#postgres?.pid ?? null,
    };
  }

  #putReady(ready: ReadyFile): void {
    this.#ready = ready;
    const text = `${JSON.stringify(ready, null, 2)}\n`;
    writeFileAtomically(this.#paths.readyFile, text);
    if (this.#given.options.readyFile !== undefined) writeFileAtomically(this.#given.options.readyFile, text);
  }
}

/** A restarted process has its pid by then. */
const RESTART_NOTICE_MS = 500;
