import pg from 'pg';
import { databaseProblem } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';

/** Files that the URL names are read here. @throws AppError ERR_AUDIT_DATABASE */
const clientOf = (url: string, config: pg.ClientConfig): pg.Client => {
  try {
    return new pg.Client({ ...config, connectionString: url });
  } catch (error) {
    const problem = databaseProblem(error, url);
    throw problem === undefined
      ? error
      : auditError('ERR_AUDIT_DATABASE', problem.message, { cause: problem });
  }
};

/**
 * A connection to be made, whose end under nobody's query does not end the process, and which rejects with a
 * DatabaseProblem when its server, its certificate, or the login is not right.
 * @throws AppError ERR_AUDIT_DATABASE when a file that the URL names cannot be read
 */
export const newClient = (
  databaseUrl: string,
  applicationName: string,
  config: Omit<pg.ClientConfig, 'connectionString' | 'application_name'> = {},
): pg.Client => {
  const client = clientOf(databaseUrl, { ...config, application_name: applicationName });
  client.on('error', () => {
    // The failing query rejects by itself.
  });
  // Without its form that takes a callback.
  const connectable: { connect(): Promise<pg.Client> } = client;
  const connect = connectable.connect.bind(client);
  const orProblem = async (): Promise<pg.Client> => {
    try {
      return await connect();
    } catch (error) {
      throw databaseProblem(error, databaseUrl) ?? error;
    }
  };
  Object.assign(client, { connect: orProblem });
  return client;
};

/** Connects, runs something and lets go, whatever comes of it. @throws what connecting or `use` throws */
export const withClient = async <T>(
  client: pg.Client,
  use: (client: pg.Client) => Promise<T>,
): Promise<T> => {
  try {
    await client.connect();
    return await use(client);
  } finally {
    await client.end().catch(() => undefined);
  }
};
