import { readFile } from 'node:fs/promises';
import { type SasCredential, sasCredential } from '../identity/index.ts';
import { AppError, foreignCodeOf, holdsCertificate, type Logger, messageOf } from '../runtime/index.ts';
import type { GatewayConfig } from './config.ts';
import type { GatewayErrorCode } from './errors.ts';

const refuse = (message: string, cause?: unknown): AppError<GatewayErrorCode> =>
  new AppError<GatewayErrorCode>('ERR_GATEWAY_CONFIG', message, { cause });

/**
 * The credential of each connection of gateway.yaml, in its order.
 * @throws AppError ERR_GATEWAY_CONFIG with every problem at once; no message holds a connection string
 */
export const readCredentials = (config: GatewayConfig, logger: Logger): readonly SasCredential[] => {
  const problems: string[] = [];
  const credentials = config.connections.flatMap(({ name, connection_string }) => {
    try {
      const credential = sasCredential(connection_string);
      for (const note of credential.notes) logger.info({ connection: name }, note);
      if (credential.connection === undefined) throw new Error('its connection string names no EntityPath');
      if (credential.connection !== name) {
        throw new Error(`its connection string is for connection ${credential.connection}`);
      }
      return [credential];
    } catch (error) {
      problems.push(`connection ${name}: ${messageOf(error)}`);
      return [];
    }
  });
  if (problems.length > 0) throw refuse(problems.join('\n'));
  return credentials;
};

/** The certificates that vouch for the relay; undefined for the system's. @throws AppError ERR_GATEWAY_CONFIG */
export const readAuthorities = async (file: string | undefined): Promise<string | undefined> => {
  if (file === undefined) return undefined;
  let pem: string;
  try {
    pem = await readFile(file, 'utf8');
  } catch (error) {
    throw refuse(`ca_file ${file} cannot be read: ${foreignCodeOf(error) ?? messageOf(error)}`, error);
  }
  // Node takes any text and then trusts nobody.
  if (!holdsCertificate(pem)) throw refuse(`ca_file ${file} holds no certificate in PEM`);
  return pem;
};
