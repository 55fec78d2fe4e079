/**
 * Whether a function sets or resets the tenant, by its text. Anybody may say SET, and the guard of statements does not
 * see what a function runs. RESET counts too: when no tenant is set, another can be entered. A statement that is put
 * together from pieces smaller than words is not found.
 */

/** A body without comments, and its literals by themselves. */
interface Text {
  /** With '' in the place of each literal. */
  readonly code: string;
  readonly literals: readonly { readonly text: string; readonly before: string }[];
}

const NAMED = /\bset\s+(?:(?:local|session)\s+)?"?app"?\s*\.\s*"?tenant_/i;
const FORGETTING = /\breset\s+(?:all\b|"?app"?\s*\.\s*"?tenant_)/i;
/** SET or RESET as a statement in a literal: of `app...`, or of a name put in later (at a `%`, or behind the end). */
const STATEMENT =
  /(?:^|;)\s*(?:set\s+(?<scope>(?:local|session)(?:\s+|$))?|(?<reset>reset\s+))(?:%|$|"?app\b|(?<all>all\b))/i;

/** @param parameters names of what the function is given */
export function setsTheTenant(language: string, body: string, parameters: readonly string[] = []): boolean {
  // How other languages quote is not known here, so comments and literals are searched as well.
  if (language !== 'plpgsql' && language !== 'sql')
    return NAMED.test(body) || /\bset\s+(?:local|session)\s*(?:[%$"'`{\]]|app\b)/i.test(body);
  const { code, literals } = read(body);
  if (NAMED.test(code) || FORGETTING.test(code)) return true;
  // Without EXECUTE a literal is data or a message. So is one behind RAISE, below.
  if (!/\bexecute\b/i.test(code)) return false;
  if (executed(code).some((name) => name.startsWith('$') || parameters.includes(name))) return true;
  const updates = literals.some(({ text }) => /\bupdate\b/i.test(text));
  return literals.some(({ text, before }) => {
    if (/\braise\s+(\w+\s*)?$/i.test(before)) return false;
    if (NAMED.test(text) || FORGETTING.test(text)) return true;
    const found = STATEMENT.exec(text)?.groups;
    if (found === undefined) return false;
    if (found['scope'] !== undefined || found['reset'] !== undefined) return true;
    // Appended to something else, or beside a literal with UPDATE, it is a clause of that statement.
    if (/(\|\||,)\s*$/.test(before)) return false;
    return !updates || /\bexecute\s*(format\s*\(\s*)?$/i.test(before);
  });
}

/** The name that an EXECUTE begins with, if it is no literal: `q` of `EXECUTE q || x` and `EXECUTE format(q, x)`. */
const executed = (code: string): string[] =>
  [
    ...code.matchAll(
      /\bexecute\s+(?:(?:format|concat)\s*\(\s*|\(\s*)?(\$\d+|"[^"]+"|[a-z_][\w$]*)(?![\w$]*\s*[(.])/gi,
    ),
  ].map(([, name = '']) => (name.startsWith('"') ? name.slice(1, -1) : name.toLowerCase()));

const PIECE =
  /--[^\n]*|\/\*|"(?:[^"]|"")*"|\b[eE]'(?:[^'\\]|''|\\[^])*'|'(?:[^']|'')*'|(?<![\w$])\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/g;

function read(body: string): Text {
  const literals: { text: string; before: string }[] = [];
  let code = '';
  let at = 0;
  PIECE.lastIndex = 0;
  for (let piece = PIECE.exec(body); piece !== null; piece = PIECE.exec(body)) {
    const [found] = piece;
    code += body.slice(at, piece.index);
    at = PIECE.lastIndex;
    if (found.startsWith('--')) code += ' ';
    else if (found === '/*') {
      code += ' ';
      at = endOfComment(body, at);
    } else if (found.startsWith('"')) code += found;
    else if (found.startsWith('$')) {
      const end = body.indexOf(found, at);
      literals.push({ text: body.slice(at, end < 0 ? undefined : end), before: code });
      code += "''";
      at = end < 0 ? body.length : end + found.length;
    } else {
      const text = found.slice(found.indexOf("'") + 1, -1).replaceAll("''", "'");
      literals.push({ text, before: code });
      code += "''";
    }
    PIECE.lastIndex = at;
  }
  return { code: code + body.slice(at), literals };
}

/** Comments nest in PostgreSQL. */
function endOfComment(body: string, from: number): number {
  const edge = /\/\*|\*\//g;
  edge.lastIndex = from;
  for (let depth = 1; depth > 0; ) {
    const found = edge.exec(body);
    if (found === null) return body.length;
    depth += found[0] === '/*' ? 1 : -1;
  }
  return edge.lastIndex;
}
