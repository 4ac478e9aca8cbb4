import { readFile } from 'node:fs/promises';
import { AppError, foreignCodeOf, messageOf } from '../runtime/index.ts';
import type { ProxyFor } from '../protocol/index.ts';
import { serviceProxy } from './bundle-proxy.ts';
import type { AgentConfig } from './config.ts';
import type { AgentErrorCode } from './errors.ts';

/** How a server is asked: what vouches for either side, and the way there. */
export interface ServiceAccess {
  /** Sent as `Authorization: Bearer`. */
  readonly token: string | undefined;
  readonly ca: string | undefined;
  /** The proxies on the way to an https address. */
  readonly proxies: ProxyFor;
  readonly clientCertificate: { readonly cert: string; readonly key: string } | undefined;
}

export type ServiceSettings = Pick<
  AgentConfig['policy']['bundle_service'],
  'token_file' | 'ca_file' | 'client_cert_file' | 'client_key_file' | 'proxy' | 'proxy_credentials_file'
>;

const readText = async (file: string | undefined, code: AgentErrorCode): Promise<string | undefined> => {
  if (file === undefined) return undefined;
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new AppError(code, `cannot read ${file}: ${foreignCodeOf(cause) ?? messageOf(cause)}`, { cause });
  }
};

/**
 * Reads the files that the settings name, as they are now.
 *
 * @param proxies those of the process, which hold where the settings name none
 * @throws AppError with this code
 */
export const readServiceAccess = async (
  settings: ServiceSettings,
  proxies: ProxyFor,
  code: AgentErrorCode,
): Promise<ServiceAccess> => {
  const { token_file, ca_file, client_cert_file, client_key_file } = settings;
  const files = [token_file, ca_file, client_cert_file, client_key_file];
  const [token, ca, cert, key] = await Promise.all(files.map((file) => readText(file, code)));
  return {
    token: token?.trim(),
    ca,
    clientCertificate: cert === undefined || key === undefined ? undefined : { cert, key },
    proxies: serviceProxy(settings, proxies),
  };
};
