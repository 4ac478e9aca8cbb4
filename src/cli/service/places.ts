import { dirname, resolve, sep } from 'node:path';

/** A port below this may be listened on by root and CAP_NET_BIND_SERVICE alone (`ip_unprivileged_port_start`). */
const FIRST_FREE_PORT = 1024;
const PORT = /:(\d{1,5})$/;
/** What the unit hides (ProtectHome, PrivateTmp). */
const HIDDEN = ['/home', '/root', '/run/user', '/tmp', '/var/tmp'];

/** What a configuration says under a key, wherever the key stands. */
const valuesOf = (value: unknown, isWanted: (key: string) => boolean): string[] => {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, child]: [string, unknown]) => {
    const texts = Array.isArray(child) ? child : [child];
    const own = isWanted(key) ? texts.filter((text): text is string => typeof text === 'string') : [];
    return [...own, ...valuesOf(child, isWanted)];
  });
};

const isBelow = (path: string, directory: string): boolean =>
  path === directory || path.startsWith(`${directory}${sep}`);

/** Whether any `listen` of a configuration, at whatever depth, is a port below 1024; port 0 is any free one. */
export const needsLowPorts = (config: unknown): boolean =>
  valuesOf(config, (key) => key === 'listen')
    .map((text) => Number(PORT.exec(text)?.[1]))
    .some((port) => port > 0 && port < FIRST_FREE_PORT);

/**
 * The directories that a process writes to beside its state directory: every `*_dir` of its configuration, and that of
 * `checkpoint_file`. Sorted; none below another of them.
 * @param config as read, so that its paths are absolute or relative to the working directory
 * @param state what it may write anyway
 */
export const writableBeside = (config: unknown, state: string): string[] => {
  const directories = [
    ...valuesOf(config, (key) => key.endsWith('_dir')),
    ...valuesOf(config, (key) => key === 'checkpoint_file').map((file) => dirname(file)),
  ].map((path) => resolve(path));
  const outside = [...new Set(directories)].filter((path) => !isBelow(path, state)).sort();
  return outside.filter((path) => !outside.some((other) => other !== path && isBelow(path, other)));
};

/** The paths that a process under the unit could not see. */
export const hiddenAmong = (paths: readonly string[]): string[] =>
  paths.filter((path) => HIDDEN.some((directory) => isBelow(path, directory)));
