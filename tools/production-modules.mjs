// The packages of node_modules that the program needs to run, as package-lock.json names them: nothing is fetched.
import { cpSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Needed to build dist/, which a package brings along (docs/adr/0001); it is also the one with a native program. */
const FOR_BUILDING = new Set(['esbuild']);
/** Nothing at run time reads declarations and source maps: a third of the bytes. */
const LEFT_OUT = /\.(map|d\.ts|d\.mts|d\.cts)$/;

const nameOf = (path) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);

/**
 * `[{ path, name, version, license }]` of what is installed below `root`, without what only development needs and without
 * optional packages (the embedded PostgreSQL).
 * @throws Error when what is installed is not what package-lock.json says
 */
export const productionModules = (root) => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(packages)
    .filter(([path, { dev, optional, devOptional }]) => path !== '' && !dev && !optional && !devOptional)
    .filter(([path]) => !FOR_BUILDING.has(nameOf(path)))
    .map(([path, { version }]) => {
      let manifest;
      try {
        manifest = JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8'));
      } catch {
        throw new Error(`${path} is not installed: run npm ci`);
      }
      if (manifest.version !== version)
        throw new Error(`${path} is ${manifest.version}, package-lock.json says ${version}: run npm ci`);
      return { path, name: nameOf(path), version, license: manifest.license ?? 'see its files' };
    });
};

/** Copies them below `folder`, as deep as they were. */
export const copyModules = (root, modules, folder) => {
  for (const { path } of modules) {
    cpSync(join(root, path), join(folder, path), {
      recursive: true,
      // What is nested is a package of its own, and listed or not.
      filter: (from) => basename(from) !== 'node_modules' && !LEFT_OUT.test(from),
    });
  }
};
