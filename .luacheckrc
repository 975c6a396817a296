std = "lua54"
max_line_length = 100
ignore = {"211/scope"} -- local scope <close> = pg.scope() does its work by closing
files["spec"] = {std = "+busted"}
exclude_files = {"build*"}
