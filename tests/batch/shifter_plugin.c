/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A stand-in for Shifter's Slurm plugin: the options --image and --volume of sbatch and srun, resolved and
 * refused at submission as the real one was seen to do. Arguments of the plugin: docker:NAME:TAG=ID, ...
 */
#include <slurm/spank.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

SPANK_PLUGIN(shifter, 1);

static char image[512], volume[4096];

static int take_image(int val, const char *text, int remote)
{
    if (!*text && !remote)
        slurm_error("Invalid image input: must not be empty");
    snprintf(image, sizeof image, "%s", text);
    return ESPANK_SUCCESS;
}

static int take_volume(int val, const char *text, int remote)
{
    char from[4096], *end;
    struct stat seen;

    snprintf(volume, sizeof volume, "%s", text); /* the last one alone */
    snprintf(from, sizeof from, "%s", text);
    if (remote)
        return ESPANK_SUCCESS;
    for (char *map = strtok_r(from, ";", &end); map; map = strtok_r(NULL, ";", &end)) {
        char *to = strchr(map, ':');
        if (!to || map[0] != '/' || to[1] != '/') {
            slurm_error("Invalid Volume Map: %s, aborting! 1", map);
            exit(1);
        }
        *to = 0;
        if (stat(map, &seen) || !S_ISDIR(seen.st_mode)) {
            slurm_error("Invalid Volume Map: %s, aborting! 1", map);
            exit(1);
        }
    }
    return ESPANK_SUCCESS;
}

static struct spank_option options[] = {
    {"image", "image", "shifter image to use", 1, 0, take_image},
    {"volume", "volume", "shifter bind mounts", 1, 0, take_volume},
    SPANK_OPTIONS_TABLE_END,
};

int slurm_spank_init(spank_t sp, int ac, char **av)
{
    for (int i = 0; options[i].name; i++)
        spank_option_register(sp, &options[i]);
    return ESPANK_SUCCESS;
}

int slurm_spank_init_post_opt(spank_t sp, int ac, char **av)
{
    if (spank_remote(sp))
        return ESPANK_SUCCESS;
    if (volume[0] && !image[0])
        exit(255);
    if (!image[0] || !strncmp(image, "id:", 3))
        return ESPANK_SUCCESS;
    for (int i = 0; i < ac; i++)
        if (!strncmp(av[i], image, strlen(image)) && av[i][strlen(image)] == '=')
            return ESPANK_SUCCESS;
    slurm_error("Failed to lookup image.  Aborting.");
    exit(255);
}
