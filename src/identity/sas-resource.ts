/** What a token must be good for. */
export interface WantedResource {
  /** Host of the namespace. */
  readonly host: string;
  /** The connection asked for. */
  readonly connection: string;
}

const RESOURCE = /^(?:[a-z][a-z0-9+.-]*:\/\/)?(\[[^\]/?#]*\]|[^/?#:@]*)(?::\d*)?(\/[^?#]*)?(?:[?#].*)?$/is;

/**
 * Whether a decoded `sr` covers a connection: same host, and its path is empty (the namespace) or a prefix of
 * the connection's path by whole segments. Scheme, port, trailing slashes, query and case mean nothing.
 */
export const resourceMatches = (resource: string, wanted: WantedResource): boolean => {
  const match = RESOURCE.exec(resource);
  if (match === null) return false;
  const host = (match[1] ?? '').replace(/^\[|\]$/g, '').toLowerCase();
  if (host === '' || host !== wanted.host.replace(/^\[|\]$/g, '').toLowerCase()) return false;
  const path = (match[2] ?? '').replace(/^\/+|\/+$/g, '').toLowerCase();
  return path === '' || path === wanted.connection.toLowerCase();
};
