import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { AppError, foreignCodeOf, messageOf } from '../runtime/index.ts';
import { lockHolder } from './up/lock.ts';
import { DEFAULT_STATE_DIRECTORY } from './up/state.ts';

const readyConnectionSchema = z.object({
  name: z.string(),
  /** `host:port` on the private side. */
  target: z.string(),
  /** `ADDR:PORT` for applications. */
  listen: z.string(),
  send_connection_string_file: z.string(),
  listen_connection_string_file: z.string(),
});

const readySchema = z.object({
  version: z.string(),
  /** `postgres` is null when the database is not ours. */
  pids: z.object({
    relay: z.number(),
    agent: z.number(),
    gateway: z.number(),
    postgres: z.number().nullable(),
  }),
  relay: z.object({ url: z.string(), admin_url: z.string() }),
  admin_token_file: z.string(),
  ca_file: z.string(),
  trust_file: z.string(),
  /** The owner's. A secret. */
  database_url: z.string(),
  /** Role `audit_read`, through the tunnel; null when `--publish` replaced `audit-db`. A secret. */
  audit_read_url: z.string().nullable(),
  state_dir: z.string(),
  policy_bundle: z.string(),
  agent: z.object({ name: z.string(), status_url: z.string() }),
  gateway: z.object({ status_url: z.string() }),
  connections: z.array(readyConnectionSchema),
});

/** What `up` writes once everything answers; the names are an interface. */
export type ReadyFile = z.infer<typeof readySchema>;
export type ReadyConnection = z.infer<typeof readyConnectionSchema>;

/**
 * The `up` that runs on a state directory; undefined when none does.
 * @throws AppError ERR_CLI_STATE when its ready file cannot be read
 */
export const findRunningUp = (stateDirectory: string = DEFAULT_STATE_DIRECTORY): ReadyFile | undefined => {
  const root = resolve(stateDirectory);
  if (lockHolder(root) === undefined) return undefined;
  const file = join(root, 'ready.json');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (foreignCodeOf(error) === 'ENOENT') return undefined;
    throw new AppError('ERR_CLI_STATE', `cannot read ${file}: ${foreignCodeOf(error) ?? messageOf(error)}`, {
      cause: error,
    });
  }
  try {
    return readySchema.parse(JSON.parse(text));
  } catch (error) {
    throw new AppError('ERR_CLI_STATE', `${file} is not the ready file of this version`, { cause: error });
  }
};

/** For `--tunnel`. @throws AppError ERR_CLI_NO_UP when none runs there */
export const requireRunningUp = (stateDirectory: string = DEFAULT_STATE_DIRECTORY): ReadyFile => {
  const found = findRunningUp(stateDirectory);
  if (found !== undefined) return found;
  throw new AppError(
    'ERR_CLI_NO_UP',
    `--tunnel goes through the tunnel of a running \`sallyport up\`, and none has its state in ${resolve(stateDirectory)}: say where by --state, or, of a deployment, leave --tunnel out and give --database URL (or DATABASE_URL), by a gateway's listener where the database is published`,
  );
};
