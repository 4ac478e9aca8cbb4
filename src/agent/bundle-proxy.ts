import { configuredProxy, type ProxyFor } from '../protocol/index.ts';
import type { AgentConfig } from './config.ts';

/**
 * The proxy that the configuration names for a server, in place of that of the whole process.
 *
 * @param processWide those of the process, which hold where nothing is named
 */
export const serviceProxy = (
  {
    proxy: url,
    proxy_credentials_file,
  }: Pick<AgentConfig['policy']['bundle_service'], 'proxy' | 'proxy_credentials_file'>,
  processWide: ProxyFor,
): ProxyFor =>
  url === undefined
    ? processWide
    : configuredProxy({ url, no_proxy: [], credentials_file: proxy_credentials_file });
