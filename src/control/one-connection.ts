import pg from 'pg';
import { databaseProblem, messageOf } from '../runtime/index.ts';
import { databaseError } from './database.ts';

const CONNECT_TIMEOUT_MS = 5_000;

/** Files that the URL names are read here. */
const clientOf = (databaseUrl: string, applicationName: string): pg.Client => {
  try {
    return new pg.Client({
      connectionString: databaseUrl,
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    });
  } catch (error) {
    throw databaseError(databaseProblem(error, databaseUrl) ?? error);
  }
};

/**
 * One connection, for one piece of work.
 * @throws what `work` throws; AppError ERR_CONTROL_UNAVAILABLE, ERR_CONTROL_SCHEMA for what the database says
 */
export const withConnection = async <T>(
  databaseUrl: string,
  applicationName: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> => {
  const client = clientOf(databaseUrl, applicationName);
  let lost = '';
  client.on('error', (error) => {
    lost = messageOf(error);
  });
  try {
    await client.connect().catch((error: unknown) => {
      throw databaseProblem(error, databaseUrl) ?? error;
    });
    return await work(client);
  } catch (error) {
    throw databaseError(lost === '' ? error : new Error(lost, { cause: error }));
  } finally {
    // Only the result counts: an end that fails closes nothing that is still open.
    await client.end().catch(() => undefined);
  }
};

/**
 * One connection as the database's owner, for what a relay's login may not do.
 * @throws what `work` throws; AppError ERR_CONTROL_UNAVAILABLE, ERR_CONTROL_SCHEMA for what the database says
 */
export const withOwner = <T>(ownerUrl: string, work: (client: pg.Client) => Promise<T>): Promise<T> =>
  withConnection(ownerUrl, 'sallyport-roles', work);
