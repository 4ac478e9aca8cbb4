import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { z } from 'zod';
import {
  type AgentConfig,
  agentConfigSchema,
  type AgentDeps,
  type AgentProcess,
  startAgent,
} from '../../src/agent/index.ts';
import {
  type GatewayConfig,
  gatewayConfigSchema,
  type GatewayDeps,
  type GatewayProcess,
  startGateway,
} from '../../src/gateway/index.ts';
import { formatConnectionString, newKeyText } from '../../src/identity/index.ts';
import { DEFAULT_BUNDLE_FILE, developmentBundle } from '../../src/policy/index.ts';
import { NodeLogin, type NodeLoginOptions } from '../../src/protocol/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { CA, NAMESPACE, type Relay, startRelayNode } from '../relay/relay-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { listen, type ListeningServer } from '../support/sockets.ts';

export const CONNECTION = 'db';

/** Removed by whoever uses it, after closing what writes there. */
const scratch = (): string => mkdtempSync(join(tmpdir(), 'sallyport-ends-'));

const closeAndRemove = async (process: { close(): Promise<void> }, directory: string): Promise<void> => {
  await process.close();
  rmSync(directory, { recursive: true, force: true });
};

/** A login whose tokens the fake control database of the relay fixture knows: `key:<name of the auth-rule>`. */
const fakeLogin = (options: NodeLoginOptions): NodeLogin =>
  new NodeLogin({
    ...options,
    credentials: options.credentials.map((credential) => ({
      ...credential,
      mint: (nowMs) => ({ token: `key:${credential.keyName}`, expiresAtMs: nowMs + 3_600_000 }),
    })),
  });

const connectionString = (keyName: string, connection: string): string =>
  formatConnectionString({ host: NAMESPACE, keyName, key: newKeyText(), entityPath: connection });

export const writeBundle = (
  file: string,
  port: number,
  options: { sequence?: number; forbidden?: string[] } = {},
): void => {
  const bytes = developmentBundle(
    readFileSync(DEFAULT_BUNDLE_FILE),
    [{ name: CONNECTION, host: '127.0.0.1', port }],
    options,
  );
  writeFileSync(file, bytes);
};

export interface AgentOptions {
  readonly config?: Partial<z.input<typeof agentConfigSchema>>;
  readonly deps?: Partial<AgentDeps>;
  readonly bundle?: { sequence?: number; forbidden?: string[] } | 'none';
  readonly name?: string;
  readonly relays?: readonly Relay[];
}

export interface StartedAgent {
  readonly agent: AgentProcess;
  readonly config: AgentConfig;
  readonly bundleFile: string;
}

/** A real agent with a real spool and the development policy for one target on loopback. */
export const startTestAgent = async (
  t: TestContext,
  relay: Relay,
  port: number,
  options: AgentOptions = {},
): Promise<StartedAgent> => {
  const directory = scratch();
  const bundleFile = join(directory, 'bundle.tar.gz');
  const caFile = join(directory, 'ca.pem');
  writeFileSync(caFile, CA);
  if (options.bundle !== 'none') writeBundle(bundleFile, port, options.bundle);
  const config = agentConfigSchema.parse({
    namespace: NAMESPACE,
    name: options.name ?? 'agent-1',
    time_zone: 'UTC',
    state_dir: join(directory, 'state'),
    relays: (options.relays ?? [relay]).map((one) => one.config),
    ca_file: caFile,
    connections: [{ connection_string: connectionString('k_listen', CONNECTION) }],
    policy: { bundle_file: bundleFile, require_signed: false },
    audit: {
      spool_dir: join(directory, 'spool'),
      key_file: join(directory, 'audit.key'),
      jsonl_dir: join(directory, 'jsonl'),
    },
    allow_loopback: [port],
    status: { listen: '127.0.0.1:0' },
    ...options.config,
  });
  const agent = await startAgent(config, {
    clock: systemClock,
    logger: silentLogger,
    login: fakeLogin,
    ...options.deps,
  });
  t.after(() => closeAndRemove(agent, directory));
  return { agent, config, bundleFile };
};

export interface GatewayOptions {
  readonly config?: Partial<GatewayConfig>;
  readonly deps?: Partial<GatewayDeps>;
  readonly key?: string;
  readonly eager?: boolean;
  readonly relays?: readonly Relay[];
}

/** A real gateway with one entrance. */
export const startTestGateway = async (
  t: TestContext,
  relay: Relay,
  options: GatewayOptions = {},
): Promise<{ gateway: GatewayProcess; listen: string }> => {
  const directory = scratch();
  const caFile = join(directory, 'ca.pem');
  writeFileSync(caFile, CA);
  const config = gatewayConfigSchema.parse({
    namespace: NAMESPACE,
    name: 'gateway-1',
    state_dir: join(directory, 'state'),
    relays: (options.relays ?? [relay]).map((one) => one.config),
    ca_file: caFile,
    connections: [
      {
        name: CONNECTION,
        connection_string: connectionString(options.key ?? 'k_send', CONNECTION),
        listen: '127.0.0.1:0',
        ...(options.eager === undefined ? {} : { eager: options.eager }),
      },
    ],
    status: { listen: '127.0.0.1:0' },
    ...options.config,
  });
  const gateway = await startGateway(config, {
    clock: systemClock,
    logger: silentLogger,
    login: fakeLogin,
    ...options.deps,
  });
  t.after(() => closeAndRemove(gateway, directory));
  return { gateway, listen: gateway.entrances[0]?.listen ?? '' };
};

/** Waits until a process says that a stream would work now. */
export const untilReady = (process: { readonly statusUrl: string }): Promise<boolean> =>
  eventually('ready', async () => {
    const response = await fetch(`${process.statusUrl}/readyz`);
    if (response.status !== 200) throw new Error(await response.text());
    return true;
  });

export const statusOf = async (process: { readonly statusUrl: string }): Promise<Record<string, unknown>> =>
  (await (await fetch(`${process.statusUrl}/status`)).json()) as Record<string, unknown>;

/** Relay, target, agent and gateway, all real, ready. */
export const startEnds = async (
  t: TestContext,
  serve: Parameters<typeof listen>[1],
  options: { agent?: AgentOptions; gateway?: GatewayOptions } = {},
): Promise<{
  relay: Relay;
  target: ListeningServer;
  started: StartedAgent;
  gateway: GatewayProcess;
  listen: string;
}> => {
  const target = await listen(t, serve);
  const relay = await startTestRelay(t, target.port);
  const started = await startTestAgent(t, relay, target.port, options.agent);
  if (options.agent?.bundle !== 'none') await untilReady(started.agent);
  const { gateway, listen: address } = await startTestGateway(t, relay, options.gateway);
  if (options.agent?.bundle !== 'none') await untilReady(gateway);
  return { relay, target, started, gateway, listen: address };
};

/** A relay node whose connection `db` leads to a port on loopback. */
export const startTestRelay = async (t: TestContext, port: number, publicHost?: string): Promise<Relay> => {
  const started = await startRelayNode(publicHost === undefined ? {} : { publicHost });
  const relay =
    publicHost === undefined ? started : { ...started, config: { ...started.config, host: publicHost } };
  const record = relay.control.connectionRecords.get(CONNECTION);
  if (record === undefined) throw new Error('the fixture has no connection');
  relay.control.connectionRecords.set(CONNECTION, { ...record, target: { host: '127.0.0.1', port } });
  t.after(() => relay.node.close());
  return relay;
};
