import { fileURLToPath } from 'node:url';
import type { TestContext } from 'node:test';
import pg from 'pg';
import { migrate } from '../../src/audit/index.ts';
import {
  type Control,
  type ControlOptions,
  ensureRelayRole,
  type Keyring,
  type LiveState,
  newKeyringText,
  openControl,
  parseKeyring,
  type StreamInfo,
} from '../../src/control/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';

export const NAMESPACE = 'relay.example.com';
const MIGRATIONS = fileURLToPath(new URL('../../migrations/control/', import.meta.url));

const RELAY_ROLE = 'test_control_relay';

/** A new database with the control schema; the URL of its owner and of a relay's login. */
export const controlDatabase = async (postgres: {
  createDatabase(): Promise<string>;
}): Promise<{ ownerUrl: string; relayUrl: string }> => {
  const ownerUrl = await postgres.createDatabase();
  await migrate({ databaseUrl: ownerUrl, schema: 'control', directory: MIGRATIONS, roles: true });
  await ensureRelayRole(ownerUrl, RELAY_ROLE, 'test-only');
  const url = new URL(ownerUrl);
  url.username = RELAY_ROLE;
  url.password = 'test-only';
  return { ownerUrl, relayUrl: url.href };
};

/** Runs SQL as the owner. */
export const sql = async (
  url: string,
  text: string,
  values: unknown[] = [],
): Promise<Record<string, unknown>[]> => {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text, values)).rows;
  } finally {
    await client.end();
  }
};

/** A live state that holds what a test puts there. */
export const liveStateOf = (
  parts: Partial<LiveState> & { streamList?: readonly StreamInfo[] } = {},
): LiveState => ({
  logins: () => [],
  links: () => [],
  streams: async () => parts.streamList ?? [],
  lastFailures: () => [],
  closeStream: async () => false,
  ...parts,
});

export interface Fixture {
  readonly control: Control;
  /** The owner's. */
  readonly ownerUrl: string;
  /** The relay's. */
  readonly relayUrl: string;
  readonly keyring: Keyring;
}

/** A node over a database of its own; started and in sync. Closed with the test. */
export const openNode = async (
  t: TestContext,
  databaseUrl: string,
  options: Partial<ControlOptions> & { keyring: Keyring },
): Promise<Control> => {
  const control = await openControl({
    databaseUrl,
    namespace: NAMESPACE,
    node: 'node-1',
    clock: systemClock,
    logger: silentLogger,
    ...options,
  });
  t.after(() => control.close());
  control.start();
  await control.revocations.firstSync;
  return control;
};

/** A migrated database and one node on it. */
export const controlFixture = async (
  t: TestContext,
  postgres: { createDatabase(): Promise<string> },
  options: Partial<ControlOptions> = {},
): Promise<Fixture> => {
  const { ownerUrl, relayUrl } = await controlDatabase(postgres);
  const keyring = typeof options.keyring === 'object' ? options.keyring : parseKeyring(newKeyringText());
  const control = await openNode(t, relayUrl, { ...options, keyring });
  return { control, ownerUrl, relayUrl, keyring };
};
