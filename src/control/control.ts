import { type Clock, type Logger, messageOf } from '../runtime/index.ts';
import { createAdmission } from './admission.ts';
import type { AgentLogin } from './agent-registry.ts';
import {
  createManagementServer,
  type ManagementServer,
  type ManagementServerOptions,
} from './api/management-server.ts';
import { findConnection, listConnections } from './connection-store.ts';
import type { ControlContext } from './context.ts';
import type { Admission } from './credential.ts';
import { Database } from './database.ts';
import { AckWaiters } from './enforcement-wait.ts';
import { KeyCache } from './key-cache.ts';
import { type Keyring, readKeyringFile } from './keyring.ts';
import { KeyUsage } from './key-usage.ts';
import { ensureNamespace } from './namespace.ts';
import { type NodeParties, NodeRegistry, type PublicAddress } from './node-registry.ts';
import { OutboxDrain, type OutboxSink } from './outbox.ts';
import type { ConnectionRecord } from './records.ts';
import { PostgresRevocationFeed, type RevocationFeed } from './revocation-feed.ts';
import { RevocationLog } from './revocation-log.ts';
import { republishRevocations } from './revocation-republish.ts';
import { replaceOwnerCode, replaceOwnerToken, revokeToken, SYSTEM_ACTOR } from './token-store.ts';

/** After this time without Postgres nothing is admitted (identity.md, Fences). */
export const FENCE_AFTER_MS = 15_000;
/** After this time without Postgres a node cuts its links. */
export const CUT_AFTER_MS = 300_000;
/** Connections read per page by `connections.list`. */
const PAGE = 1_000;

export interface ControlOptions {
  readonly databaseUrl: string;
  /** A direct connection for LISTEN, when databaseUrl goes through a transaction pooler. */
  readonly listenUrl?: string;
  /** Path of the keyring, or the keyring itself. */
  readonly keyring: string | Keyring;
  /** Host of the namespace, as in `sr` and in connection strings. */
  readonly namespace: string;
  /** Further host names that a token's `sr` may name; the namespace itself always may. */
  readonly resourceHosts?: readonly string[];
  /** Port to write into connection strings; absent: none. */
  readonly publicPort?: number;
  /** This node's name, unique among the nodes. */
  readonly node: string;
  /** Where agents and gateways dial this node, no other node's; absent: other nodes cannot see that they share it. */
  readonly publicAddress?: PublicAddress;
  /** Where this node keeps every revocation it heard; absent: in memory alone. */
  readonly stateDirectory?: string;
  /** After this time without Postgres nothing is admitted. Default 15 s. */
  readonly fenceAfterMs?: number;
  /** After this time without Postgres this node cuts its links; undefined: never. Default 300 s. */
  readonly cutAfterMs?: number | 'never';
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Connections, keys, revocations and their management, over the control database. */
export interface Control {
  readonly namespace: string;
  readonly node: string;
  readonly admission: Admission;
  readonly connections: {
    /** Undefined when there is none. @throws AppError ERR_CONTROL_UNAVAILABLE */
    get(name: string): Promise<ConnectionRecord | undefined>;
    list(): Promise<readonly ConnectionRecord[]>;
  };
  readonly revocations: RevocationFeed;
  /** Starts feed, heartbeat and namespace bootstrap; retries by itself while Postgres is away. */
  start(): void;
  /** Why a new credential would be refused now; undefined when none would. */
  unavailableBecause(): string | undefined;
  /** Says who is linked at this node, whenever other nodes are told. */
  countParties(parties: () => NodeParties): void;
  /** Says which agents are logged in at this node, whenever other nodes are told. */
  listAgents(logins: () => readonly AgentLogin[]): void;
  /** Whom other nodes have and this one has not; a new node is not ready until agents and gateways have come. */
  missingParties(): readonly string[];
  /** What this node shares with another live process and must not: its name, its public address. */
  nodeConflicts(): readonly string[];
  /** Drains the outbox into the callback, one node at a time, in order; each event at least once, under its id. */
  drainOutbox(sink: OutboxSink): void;
  /** Makes the namespace now; `start` does it too, in the background. @throws AppError ERR_CONTROL_UNAVAILABLE */
  ensureNamespace(): Promise<void>;
  /** A new owner token with this label; earlier ones of the same label end. */
  ensureOwnerToken(label: string): Promise<{ id: string; token: string }>;
  /** A new one-time owner code, good for 24 h until it is exchanged for a token; unused earlier ones end. */
  ensureOwnerCode(): Promise<{ id: string; code: string; expiresAt: Date }>;
  /** Ends a token at once. @throws AppError ERR_CONTROL_NOT_FOUND */
  endToken(id: string): Promise<void>;
  createManagementServer(options: ManagementServerOptions): Promise<ManagementServer>;
  /** Drains the outbox a last time, leaves the nodes, closes every connection. Servers are closed before. */
  close(): Promise<void>;
}

/** Tries something that must not keep the rest of closing from happening. */
const attempt = async (logger: Logger, what: string, work: () => Promise<void>): Promise<void> => {
  try {
    await work();
  } catch (error) {
    logger.debug({ cause: messageOf(error) }, `while closing: ${what}`);
  }
};

/**
 * Opens the control side of a node. Needs no Postgres yet: until it answers, admission is `unavailable`.
 * @throws AppError ERR_CONTROL_KEYRING, ERR_CONTROL_STATE
 */
export const openControl = async (options: ControlOptions): Promise<Control> => {
  const { clock, logger, namespace, node } = options;
  const keyring =
    typeof options.keyring === 'string' ? await readKeyringFile(options.keyring, clock) : options.keyring;
  const database = new Database(options.databaseUrl, logger);
  const context: ControlContext = {
    database,
    keyring,
    namespace,
    publicPort: options.publicPort,
    clock,
    logger,
  };
  const fenceAfterMs = options.fenceAfterMs ?? FENCE_AFTER_MS;
  const cutAfterMs = options.cutAfterMs === 'never' ? undefined : (options.cutAfterMs ?? CUT_AFTER_MS);
  const registry = new NodeRegistry(context, node, cutAfterMs, options.publicAddress);
  const waiters = new AckWaiters();
  const cache = new KeyCache(context);
  const usage = new KeyUsage(context);
  let drain: OutboxDrain | undefined;
  const log =
    options.stateDirectory === undefined ? undefined : new RevocationLog(options.stateDirectory, logger);
  const feed = new PostgresRevocationFeed({
    listenUrl: options.listenUrl ?? options.databaseUrl,
    database,
    namespace,
    node,
    clock,
    logger,
    // The node's row is there before the set is read: a revocation after that read waits for this node.
    async prepare() {
      await ensureNamespace(context);
      await registry.register();
    },
    ...(log === undefined ? {} : { log }),
    republish: (lost) => republishRevocations(context, node, lost),
    onKeysChanged: (connection) => cache.invalidate(connection),
    onAcknowledged: (revocationId) => waiters.wake(revocationId),
    onChanged: () => drain?.hint(),
  });
  const unavailableBecause = (): string | undefined => {
    const heardMs = feed.lastHeardMonotonicMs();
    if (!feed.synced) return 'revocations have not been read yet';
    const silentMs = clock.monotonicMs() - heardMs;
    if (silentMs < fenceAfterMs) return undefined;
    return `control database not heard for ${Math.round(silentMs / 1000)} s`;
  };
  const admission = createAdmission({
    cache,
    revocations: feed,
    usage,
    hosts: [namespace, ...(options.resourceHosts ?? [])],
    unavailableBecause,
    clock,
    logger,
  });
  return {
    namespace,
    node,
    admission,
    revocations: feed,
    connections: {
      get: (name) => findConnection(context, database, name),
      async list() {
        const all: ConnectionRecord[] = [];
        for (;;) {
          const page = await listConnections(context, all.at(-1)?.name ?? '', PAGE);
          all.push(...page);
          if (page.length < PAGE) return all;
        }
      },
    },
    start: () => feed.start(),
    unavailableBecause,
    countParties: (parties) => registry.countParties(parties),
    listAgents: (logins) => registry.listAgents(logins),
    missingParties: () => registry.missing(),
    nodeConflicts: () => registry.conflicts(),
    drainOutbox(sink) {
      drain ??= new OutboxDrain(context, sink);
    },
    ensureNamespace: () => ensureNamespace(context),
    async ensureOwnerToken(label) {
      await ensureNamespace(context);
      const { record, text } = await replaceOwnerToken(context, label);
      return { id: record.id, token: text };
    },
    async ensureOwnerCode() {
      await ensureNamespace(context);
      const { record, text } = await replaceOwnerCode(context);
      return { id: record.id, code: text, expiresAt: record.expiresAt ?? new Date(clock.nowMs()) };
    },
    async endToken(id) {
      await revokeToken(context, id, SYSTEM_ACTOR);
    },
    createManagementServer: (server) =>
      createManagementServer(
        {
          context,
          waiters,
          usage,
          node,
          feed,
          unavailableBecause,
          onChanged: () => cache.invalidate(undefined),
        },
        server,
      ),
    async close() {
      await attempt(logger, 'feed', () => feed.stop());
      await attempt(logger, 'outbox', async () => drain?.stop());
      await attempt(logger, 'key usage', () => usage.stop());
      await attempt(logger, 'node row', () => registry.leave());
      await attempt(logger, 'pool', () => database.close());
    },
  };
};
