/** The pages of the documentation, as text and as tables. */
import { readdirSync } from 'node:fs';
import path from 'node:path';

export const root = path.join(__dirname, '..', '..', '..');

/** README.md, CHANGELOG.md and all of docs/, by their paths in the project. */
export function pages(folder = 'docs'): string[] {
  const here = readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = path.join(folder, entry.name);
    if (entry.isDirectory()) return pages(name);
    return entry.name.endsWith('.md') ? [name] : [];
  });
  return folder === 'docs' ? ['README.md', 'CHANGELOG.md', ...here] : here;
}

/** The cells of the table whose head begins with these columns, without backquotes around a whole cell. */
export function rowsOfTable(page: string, ...head: string[]): string[][] {
  const lines = page.split('\n');
  const start = lines.findIndex(
    (line) => line.startsWith('|') && head.every((column, i) => cellsOf(line)[i] === column),
  );
  if (start === -1) throw new Error(`no table ${head.join(', ')}`);
  const end = lines.findIndex((line, i) => i > start && !line.startsWith('|'));
  return lines
    .slice(start + 2, end === -1 ? undefined : end)
    .map((line) => cellsOf(line).map((cell) => /^`([^`]*)`$/.exec(cell)?.[1] ?? cell));
}

const cellsOf = (line: string): string[] =>
  line
    .replace(/^\||\|\s*$/g, '')
    .split('|')
    .map((cell) => cell.trim());
