/* The module perigee.cairo: a thin canvas for PNG, SVG and PDF pictures, encoded in memory.
 * Relies on cairo and Lua, not on libperigee. Coordinates are in points, y grows downwards.
 * Spec: spec/plot/cairo_spec.lua. */
#include <cairo-pdf.h>
#include <cairo-svg.h>
#include <cairo.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CANVAS "perigee.Canvas"

enum { PNG, SVG, PDF };

/* Everything is owned; NULL where not made yet or closed. */
typedef struct canvas {
  cairo_surface_t *surface;
  cairo_t *cr;
  int format;
  char *bytes; /* the encoded picture so far */
  size_t count, room;
} canvas;

static cairo_status_t append(void *closure, const unsigned char *data, unsigned int n) {
  canvas *c = closure;
  if (n > c->room - c->count) {
    size_t room = c->room + c->room / 2 + n + 4096;
    char *bytes = realloc(c->bytes, room);
    if (bytes == NULL) return CAIRO_STATUS_NO_MEMORY;
    c->bytes = bytes;
    c->room = room;
  }
  memcpy(c->bytes + c->count, data, n);
  c->count += n;
  return CAIRO_STATUS_SUCCESS;
}

static void canvas_free(canvas *c) {
  if (c->cr) cairo_destroy(c->cr);
  if (c->surface) cairo_surface_destroy(c->surface); /* may still write: bytes go last */
  free(c->bytes);
  memset(c, 0, sizeof *c);
}

static int l_gc(lua_State *L) {
  canvas_free(luaL_checkudata(L, 1, CANVAS));
  return 0;
}

/* Raises where cairo has stopped drawing. */
static void check(lua_State *L, cairo_status_t s) {
  if (s != CAIRO_STATUS_SUCCESS) luaL_error(L, "canvas: %s", cairo_status_to_string(s));
}

static cairo_t *drawing(lua_State *L) {
  canvas *c = luaL_checkudata(L, 1, CANVAS);
  if (c->cr == NULL) luaL_error(L, "canvas: it is finished");
  return c->cr;
}

static double number(lua_State *L, int i) {
  double v = luaL_checknumber(L, i);
  luaL_argcheck(L, isfinite(v), i, "expected a finite number");
  return v;
}

static double number_or(lua_State *L, int i, double otherwise) {
  return lua_isnoneornil(L, i) ? otherwise : number(L, i);
}

/* new(format, width, height [, scale]) -> canvas. format "png" (scale pixels a point), "svg",
 * "pdf".
 */
static int l_new(lua_State *L) {
  static const char *const formats[] = {"png", "svg", "pdf", NULL};
  int format = luaL_checkoption(L, 1, NULL, formats);
  double width = number(L, 2), height = number(L, 3), scale = number_or(L, 4, 1);
  luaL_argcheck(L, width >= 1 && width <= 20000, 2, "expected a width of 1 to 20000 points");
  luaL_argcheck(L, height >= 1 && height <= 20000, 3, "expected a height of 1 to 20000 points");
  luaL_argcheck(L, scale > 0 && scale * fmax(width, height) <= 30000, 4,
                "expected a scale that gives at most 30000 pixels");
  canvas *c = lua_newuserdatauv(L, sizeof *c, 0);
  memset(c, 0, sizeof *c);
  luaL_setmetatable(L, CANVAS);
  c->format = format;
  if (format == PNG) {
    c->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)ceil(width * scale),
                                            (int)ceil(height * scale));
  } else if (format == SVG) {
    c->surface = cairo_svg_surface_create_for_stream(append, c, width, height);
  } else {
    c->surface = cairo_pdf_surface_create_for_stream(append, c, width, height);
  }
  check(L, cairo_surface_status(c->surface));
  c->cr = cairo_create(c->surface);
  check(L, cairo_status(c->cr));
  if (format == PNG) cairo_scale(c->cr, scale, scale);
  return 1;
}

/* finish() -> the encoded picture as a string; the canvas is closed. */
static int l_finish(lua_State *L) {
  canvas *c = luaL_checkudata(L, 1, CANVAS);
  check(L, cairo_status(drawing(L)));
  cairo_status_t s = CAIRO_STATUS_SUCCESS;
  if (c->format == PNG) {
    s = cairo_surface_write_to_png_stream(c->surface, append, c);
  } else {
    cairo_surface_finish(c->surface);
    s = cairo_surface_status(c->surface);
  }
  check(L, s);
  lua_pushlstring(L, c->bytes, c->count);
  canvas_free(c);
  return 1;
}

/* --- paths: each returns the canvas --------------------------------------------------------------
 */
static int l_move(lua_State *L) {
  cairo_move_to(drawing(L), number(L, 2), number(L, 3));
  lua_settop(L, 1);
  return 1;
}
static int l_line(lua_State *L) {
  cairo_line_to(drawing(L), number(L, 2), number(L, 3));
  lua_settop(L, 1);
  return 1;
}
/* rect(x, y, width, height [, radius of the corners]) */
static int l_rect(lua_State *L) {
  cairo_t *cr = drawing(L);
  double x = number(L, 2), y = number(L, 3), w = number(L, 4), h = number(L, 5);
  double r = fmin(number_or(L, 6, 0), fmin(w, h) / 2);
  if (r > 0) {
    cairo_new_sub_path(cr);
    cairo_arc(cr, x + w - r, y + r, r, -M_PI / 2, 0);
    cairo_arc(cr, x + w - r, y + h - r, r, 0, M_PI / 2);
    cairo_arc(cr, x + r, y + h - r, r, M_PI / 2, M_PI);
    cairo_arc(cr, x + r, y + r, r, M_PI, 3 * M_PI / 2);
    cairo_close_path(cr);
  } else {
    cairo_rectangle(cr, x, y, w, h);
  }
  lua_settop(L, 1);
  return 1;
}
static int l_circle(lua_State *L) {
  cairo_t *cr = drawing(L);
  double x = number(L, 2), y = number(L, 3), r = number(L, 4);
  cairo_new_sub_path(cr);
  cairo_arc(cr, x, y, r, 0, 2 * M_PI);
  lua_settop(L, 1);
  return 1;
}
static int l_close_path(lua_State *L) {
  cairo_close_path(drawing(L));
  lua_settop(L, 1);
  return 1;
}

static void colour(lua_State *L, cairo_t *cr, int i) {
  cairo_set_source_rgba(cr, number(L, i), number(L, i + 1), number(L, i + 2),
                        number_or(L, i + 3, 1));
}

/* fill(r, g, b [, a [, keep]]): the path; keep: it stays for a stroke. */
static int l_fill(lua_State *L) {
  cairo_t *cr = drawing(L);
  colour(L, cr, 2);
  if (lua_toboolean(L, 6)) cairo_fill_preserve(cr);
  else cairo_fill(cr);
  lua_settop(L, 1);
  return 1;
}

/* stroke(width, r, g, b [, a [, dash]]): the path, with round joins; dash: length of dashes. */
static int l_stroke(lua_State *L) {
  cairo_t *cr = drawing(L);
  cairo_set_line_width(cr, number(L, 2));
  colour(L, cr, 3);
  double dash = number_or(L, 7, 0);
  cairo_set_dash(cr, &dash, dash > 0 ? 1 : 0, 0);
  cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
  cairo_stroke(cr);
  lua_settop(L, 1);
  return 1;
}

static int l_clip(lua_State *L) {
  cairo_clip(drawing(L));
  lua_settop(L, 1);
  return 1;
}
static int l_save(lua_State *L) {
  cairo_save(drawing(L));
  lua_settop(L, 1);
  return 1;
}
static int l_restore(lua_State *L) {
  cairo_t *cr = drawing(L);
  cairo_restore(cr);
  check(L, cairo_status(cr));
  lua_settop(L, 1);
  return 1;
}
static int l_translate(lua_State *L) {
  cairo_translate(drawing(L), number(L, 2), number(L, 3));
  lua_settop(L, 1);
  return 1;
}
/* rotate(angle): radians, clockwise. */
static int l_rotate(lua_State *L) {
  cairo_rotate(drawing(L), number(L, 2));
  lua_settop(L, 1);
  return 1;
}

/* --- text ----------------------------------------------------------------------------------------
 */
/* font(size [, bold [, family]]) */
static int l_font(lua_State *L) {
  cairo_t *cr = drawing(L);
  double size = number(L, 2);
  luaL_argcheck(L, size > 0, 2, "expected a positive size");
  cairo_select_font_face(cr, luaL_optstring(L, 4, "sans-serif"), CAIRO_FONT_SLANT_NORMAL,
                         lua_toboolean(L, 3) ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(cr, size);
  check(L, cairo_status(cr));
  lua_settop(L, 1);
  return 1;
}

/* The text as UTF-8; anything else raises before cairo sees it. */
static const char *text_at(lua_State *L, int i) {
  size_t n;
  const unsigned char *s = (const unsigned char *)luaL_checklstring(L, i, &n);
  for (size_t k = 0; k < n;) {
    unsigned char b = s[k];
    int more = b < 0x80                ? 0
               : b >= 0xc2 && b < 0xe0 ? 1
               : b >= 0xe0 && b < 0xf0 ? 2
               : b >= 0xf0 && b < 0xf5 ? 3
                                       : -1;
    luaL_argcheck(L, b != 0 && more >= 0 && k + (size_t)more < n, i, "expected text in UTF-8");
    for (int j = 1; j <= more; j++)
      luaL_argcheck(L, (s[k + (size_t)j] & 0xc0) == 0x80, i, "expected text in UTF-8");
    k += (size_t)more + 1;
  }
  return (const char *)s;
}

/* extents(text) -> width, height, x and y bearing, advance of the text; ascent, descent of the
 * font.
 */
static int l_extents(lua_State *L) {
  cairo_t *cr = drawing(L);
  cairo_text_extents_t e;
  cairo_font_extents_t f;
  cairo_text_extents(cr, text_at(L, 2), &e);
  cairo_font_extents(cr, &f);
  check(L, cairo_status(cr));
  lua_pushnumber(L, e.width);
  lua_pushnumber(L, e.height);
  lua_pushnumber(L, e.x_bearing);
  lua_pushnumber(L, e.y_bearing);
  lua_pushnumber(L, e.x_advance);
  lua_pushnumber(L, f.ascent);
  lua_pushnumber(L, f.descent);
  return 7;
}

/* text(x, y, text): adds its outline to the path, baseline at y. */
static int l_text(lua_State *L) {
  cairo_t *cr = drawing(L);
  double x = number(L, 2), y = number(L, 3);
  const char *s = text_at(L, 4);
  cairo_new_path(cr);
  cairo_move_to(cr, x, y);
  cairo_text_path(cr, s);
  check(L, cairo_status(cr));
  lua_settop(L, 1);
  return 1;
}

/* --- many points at once -------------------------------------------------------------------------
 */
/* The pairs of doubles in string i; *n counts pairs. They may lie unaligned. */
static const char *pairs_at(lua_State *L, int i, size_t *n) {
  size_t bytes;
  const char *s = luaL_checklstring(L, i, &bytes);
  luaL_argcheck(L, bytes % (2 * sizeof(double)) == 0, i, "expected pairs of float64");
  *n = bytes / (2 * sizeof(double));
  return s;
}

/* The k-th pair through x' = x sx + ox, y' = y sy + oy; false where it is not finite or far off. */
static bool pair_at(const char *s, size_t k, const double *map, double *x, double *y) {
  double p[2];
  memcpy(p, s + k * sizeof p, sizeof p);
  *x = p[0] * map[0] + map[1];
  *y = p[1] * map[2] + map[3];
  return fabs(*x) < 1e6 && fabs(*y) < 1e6; /* false for NaN */
}

static void map_at(lua_State *L, int i, double *map) {
  for (int k = 0; k < 4; k++) map[k] = number(L, i + k);
}

/* points(xy, sx, ox, sy, oy, radius, r, g, b, a [, classes, class]): discs at x sx + ox, y sy + oy.
 * xy: bytes of float64 pairs. With classes (bytes of int64, one a pair) only those of `class`.
 * Overlapping discs add up in a PNG; in SVG and PDF they do in groups, which keeps files small. */
static int l_points(lua_State *L) {
  canvas *c = luaL_checkudata(L, 1, CANVAS);
  cairo_t *cr = drawing(L);
  size_t n, bytes = 0;
  double map[4];
  const char *xy = pairs_at(L, 2, &n);
  map_at(L, 3, map);
  double radius = number(L, 7);
  colour(L, cr, 8);
  const char *classes = luaL_optlstring(L, 12, NULL, &bytes);
  luaL_argcheck(L, classes == NULL || bytes / sizeof(int64_t) == n, 12,
                "expected one int64 for each pair");
  int64_t wanted = classes ? (int64_t)luaL_checkinteger(L, 13) : 0;
  const int group = c->format == PNG ? 1 : 40;
  int held = 0;
  cairo_new_path(cr);
  cairo_set_line_width(cr, 2 * radius);
  cairo_set_dash(cr, NULL, 0, 0);
  cairo_line_cap_t cap = cairo_get_line_cap(cr);
  cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
  for (size_t k = 0; k < n; k++) {
    double x, y;
    if (classes) {
      int64_t label;
      memcpy(&label, classes + k * sizeof label, sizeof label);
      if (label != wanted) continue;
    }
    if (!pair_at(xy, k, map, &x, &y)) continue;
    if (c->format == PNG) {
      cairo_arc(cr, x, y, radius, 0, 2 * M_PI);
      cairo_fill(cr);
    } else {
      cairo_move_to(cr, x, y); /* a stroke of no length with round caps is a disc */
      cairo_line_to(cr, x, y);
      if (++held == group) {
        cairo_stroke(cr);
        held = 0;
      }
    }
  }
  cairo_stroke(cr);
  cairo_set_line_cap(cr, cap);
  check(L, cairo_status(cr));
  lua_settop(L, 1);
  return 1;
}

/* polyline(xy, sx, ox, sy, oy): adds a line through the points to the path, broken where a point is
 * not finite. */
static int l_polyline(lua_State *L) {
  cairo_t *cr = drawing(L);
  size_t n;
  double map[4];
  const char *xy = pairs_at(L, 2, &n);
  map_at(L, 3, map);
  bool open = false;
  for (size_t k = 0; k < n; k++) {
    double x, y;
    bool there = pair_at(xy, k, map, &x, &y);
    if (there && open) cairo_line_to(cr, x, y);
    else if (there) cairo_move_to(cr, x, y);
    open = there;
  }
  lua_settop(L, 1);
  return 1;
}

/* image(rgb, columns, rows, x, y, width, height): a picture of bytes, three a pixel, row by row,
 * into the rectangle; pixels stay squares with sharp edges. */
static int l_image(lua_State *L) {
  cairo_t *cr = drawing(L);
  size_t bytes;
  const char *rgb = luaL_checklstring(L, 2, &bytes);
  lua_Integer columns = luaL_checkinteger(L, 3), rows = luaL_checkinteger(L, 4);
  double x = number(L, 5), y = number(L, 6), width = number(L, 7), height = number(L, 8);
  luaL_argcheck(L, columns >= 1 && columns <= 30000, 3, "expected 1 to 30000 columns");
  luaL_argcheck(L, rows >= 1 && rows <= 30000, 4, "expected 1 to 30000 rows");
  luaL_argcheck(L, bytes == 3 * (size_t)columns * (size_t)rows, 2, "expected three bytes a pixel");
  luaL_argcheck(L, width > 0, 7, "expected a positive width");
  luaL_argcheck(L, height > 0, 8, "expected a positive height");
  cairo_surface_t *picture =
      cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)columns, (int)rows);
  cairo_status_t s = cairo_surface_status(picture);
  if (s == CAIRO_STATUS_SUCCESS) {
    unsigned char *pixels = cairo_image_surface_get_data(picture);
    size_t stride = (size_t)cairo_image_surface_get_stride(picture);
    const unsigned char *p = (const unsigned char *)rgb;
    for (size_t i = 0; i < (size_t)rows; i++) {
      for (size_t j = 0; j < (size_t)columns; j++, p += 3) {
        uint32_t pixel = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        memcpy(pixels + i * stride + j * sizeof pixel, &pixel, sizeof pixel);
      }
    }
    cairo_surface_mark_dirty(picture);
    cairo_save(cr);
    cairo_translate(cr, x, y);
    cairo_scale(cr, width / (double)columns, height / (double)rows);
    cairo_set_source_surface(cr, picture, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_NEAREST);
    cairo_rectangle(cr, 0, 0, (double)columns, (double)rows);
    cairo_fill(cr);
    cairo_restore(cr);
  }
  cairo_surface_destroy(picture);
  check(L, s);
  check(L, cairo_status(cr));
  lua_settop(L, 1);
  return 1;
}

/* bounds(xy) -> least and greatest x, least and greatest y of the finite pairs; nothing if none is.
 */
static int l_bounds(lua_State *L) {
  size_t n;
  const char *xy = pairs_at(L, 1, &n);
  double b[4] = {INFINITY, -INFINITY, INFINITY, -INFINITY};
  for (size_t k = 0; k < n; k++) {
    double p[2];
    memcpy(p, xy + k * sizeof p, sizeof p);
    if (!isfinite(p[0]) || !isfinite(p[1])) continue;
    b[0] = fmin(b[0], p[0]);
    b[1] = fmax(b[1], p[0]);
    b[2] = fmin(b[2], p[1]);
    b[3] = fmax(b[3], p[1]);
  }
  if (b[0] > b[1]) return 0;
  for (int k = 0; k < 4; k++) lua_pushnumber(L, b[k]);
  return 4;
}

int luaopen_perigee_cairo(lua_State *L);
__attribute__((visibility("default"))) int luaopen_perigee_cairo(lua_State *L) {
  static const luaL_Reg methods[] = {{"finish", l_finish},   {"move", l_move},
                                     {"line", l_line},       {"rect", l_rect},
                                     {"circle", l_circle},   {"close_path", l_close_path},
                                     {"fill", l_fill},       {"stroke", l_stroke},
                                     {"clip", l_clip},       {"save", l_save},
                                     {"restore", l_restore}, {"translate", l_translate},
                                     {"rotate", l_rotate},   {"font", l_font},
                                     {"extents", l_extents}, {"text", l_text},
                                     {"points", l_points},   {"polyline", l_polyline},
                                     {"image", l_image},     {NULL, NULL}};
  static const luaL_Reg meta[] = {{"__gc", l_gc}, {"__close", l_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"new", l_new}, {"bounds", l_bounds}, {NULL, NULL}};
  luaL_newmetatable(L, CANVAS);
  luaL_setfuncs(L, meta, 0);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  return 1;
}
