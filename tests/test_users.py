"""What people lose with other tools, defect by defect, and the tests that show it does not happen here.

Not a notebook because it is a register. Defects are those of upscaling, numbered as in the project's table of users' complaints; the wishes
for the viewer are in test_looking.py.
"""
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = {   # number, defect → tests, file::name
    (10, "visible seams"): ["test_engine::test_row_10_tiled_equals_whole_and_less_context_does_not", "test_engine::test_the_packaged_model_shows_no_seam"],
    (11, "the tile size shows"): ["test_engine::test_row_11_12_tiles_are_chosen_by_net_and_memory_and_show_nothing"],
    (12, "tiles by trial and error"): ["test_engine::test_row_11_12_tiles_are_chosen_by_net_and_memory_and_show_nothing"],
    (13, "garbage at the border"): ["test_engine::test_row_13_the_border_of_a_picture_is_that_of_the_net"],
    (14, "a failed tile is swallowed"): ["test_engine::test_row_14_a_tile_that_fails_fails_the_picture"],
    (15, "tiles save no memory"): ["test_engine::test_row_15_only_a_tile_and_its_context_reach_the_net"],
    (16, "memory climbs over a batch"): ["test_engine::test_row_16_memory_is_flat_over_many_pictures"],
    (17, "huge pictures do not fit"): ["test_gigapixel::test_row_17_18_the_budget_is_obeyed",
                                       "test_gigapixel::test_row_17_a_folder_takes_what_is_large_through_tile_by_tile"],
    (18, "one size too large freezes the machine"): ["test_gigapixel::test_row_17_18_the_budget_is_obeyed",
                                                     "test_commands::test_upscale_says_beforehand_and_afterwards"],
    (19, "format limits met after the work"): ["test_picture::test_row_19_formats_that_are_too_small_say_so_before_encoding",
                                               "test_folder::test_what_a_format_cannot_hold_is_known_before_the_first_tile"],
    (20, "large pictures taken for bombs"): ["test_picture::test_row_20_our_limit_is_the_only_one_and_not_met_by_our_own_results",
                                             "test_gigapixel::test_row_20_the_image_library_takes_our_own_large_output"],
    (21, "tiled writing takes much memory"): ["test_gigapixel::test_row_19_21_tiled_pyramid_and_deep_zoom"],
    (22, "out of memory, and no way on"): ["test_engine::test_row_22_tiles_are_halved_until_they_fit",
                                           "test_gigapixel::test_row_22_out_of_memory_halves_the_tile_keeps_what_is_done_and_is_recorded"],
    (23, "no GPU, no run"): ["test_engine::test_row_23_24_a_processor_is_enough_and_its_rate_is_measured"],
    (24, "processors disabled as too slow"): ["test_engine::test_row_23_24_a_processor_is_enough_and_its_rate_is_measured"],
    (25, "black pictures from half precision"): ["test_engine::test_row_25_a_tile_that_overflows_is_computed_again_alone",
                                                 "test_engine::test_row_25_a_net_that_gives_nan_gives_no_picture"],
    (26, "wrong pixels on some devices"): ["test_engine::test_row_26_a_device_that_computes_wrongly_is_left"],
    (27, "no estimate for a batch"): ["test_commands::test_upscale_says_beforehand_and_afterwards", "test_folder::test_the_bar_counts_pixels_and_moves_with_every_tile"],
    (28, "colour profile dropped"): ["test_picture::test_row_28_wide_gamut_goes_round_unchanged", "test_folder::test_profiles_are_kept_or_converted"],
    (29, "colours shift"): ["test_picture::test_row_29_reading_and_writing_shift_no_colour"],
    (30, "palette, grey and opacity go wrong"): ["test_picture::test_row_30_every_mode_of_every_format_reads_as_the_same_picture",
                                                 "test_picture::test_row_30_grey_stays_grey", "test_folder::test_every_kind_of_pixel_goes_through"],
    (31, "the picture lies on its side"): ["test_picture::test_row_31_every_orientation_is_applied_and_then_gone",
                                           "test_folder::test_a_picture_is_turned_as_its_file_says"],
    (32, "ragged transparent edges"): ["test_picture::test_row_32_transparent_edges_are_clean"],
    (33, "16 bits cut without a word"): ["test_picture::test_row_33_a_dark_16_bit_grey_scan_stays_dark_and_16_bit",
                                         "test_folder::test_depth_transparency_and_size_on_paper_stay"],
    (34, "notes lost"): ["test_picture::test_row_34_the_matrix_of_format_mode_depth_and_notes"],
    (35, "quality without effect"): ["test_picture::test_row_35_quality_has_an_effect", "test_folder::test_every_format_and_its_quality"],
    (36, "a batch ignores the settings"): ["test_folder::test_a_folder_gives_what_the_single_call_gives", "test_refine::test_the_scale_counts_in_a_folder"],
    (37, "names that are not ASCII"): ["test_picture::test_row_37_any_name_will_do", "test_folder::test_a_name_that_is_no_text_is_no_reason_to_stop"],
    (38, "subfolders flattened"): ["test_folder::test_the_tree_is_mirrored_whatever_the_names"],
    (39, "one result overwrites another"): ["test_folder::test_two_inputs_with_one_output_are_an_error_before_the_first_picture"],
    (40, "one bad picture stops thousands"): ["test_folder::test_bad_files_are_named_and_the_rest_is_done"],
    (41, "a cut batch begins again"): ["test_folder::test_a_run_that_is_killed_loses_the_picture_in_hand_and_leaves_nothing",
                                       "test_folder::test_kept_is_what_was_made_of_the_same_by_the_same"],
    (42, "finished results deleted"): ["test_folder::test_a_run_that_is_killed_loses_the_picture_in_hand_and_leaves_nothing",
                                       "test_folder::test_a_file_that_no_run_has_made_is_neither_kept_nor_replaced"],
    (43, "success without a result"): ["test_picture::test_what_was_not_written_right_never_takes_the_name", "test_folder::test_a_result_that_cannot_be_written_is_reported"],
    (44, "an unreadable file is an attribute error"): ["test_picture::test_a_cut_file_is_an_error_that_names_it",
                                                       "test_fuzz::test_a_thousand_mutants_are_pictures_or_refused_by_name"],
    (45, "checkpoints differ in keys"): ["test_weights::test_every_dialect_gives_the_same_picture"],
    (46, "community models need a conversion"): ["test_commands::test_community_models_upscale", "test_weights::test_foreign_nets_equal_spandrel_but_for_the_clamp"],
    (47, "pickles that may not be loaded"): ["test_weights::test_pickles_with_code_are_refused"],
    (48, "ONNX of a frozen size"): ["test_export::test_onnxruntime_paints_the_same_picture_at_any_size"],
    (49, "no preview before the long run"): ["test_live::test_the_box_holds_region_and_context_at_whole_steps", "test_live::test_the_estimate_counts_what_the_tiles_see"],
}


def test_every_defect_of_the_table_is_here(): assert sorted(number for number, _ in ROWS) == list(range(10, 50))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0]))
def test_every_defect_has_its_test(row):
    assert ROWS[row], "no test shows it"
    for place in ROWS[row]:
        file, name = place.split("::")
        assert re.search(rf"^def {name}\(", (HERE/f"{file}.py").read_text(encoding="utf-8"), re.MULTILINE), place
